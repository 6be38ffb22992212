//! Two Services share a VIP and an external IP, each on a port of its own: that one of them goes and comes back is nothing
//! to the clients of the other, outside, in a pod and on the node.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
};

use millrace_tests::{
    address::both,
    client,
    crowd::{Crowd, Held},
    manifests::Service,
    place::Place,
    probe::{Attempt, Manner, Outcome, Protocol},
};

use crate::world::{Backend, CLUSTER_IP, N1, VIP, World, at, servers, service, worlds, worlds_with};

const EXTERNAL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 6);
const OTHER_CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 11);
const TARGET: u16 = 8071;

/// What both have, on this port.
fn shared(port: u16) -> Vec<SocketAddr> {
    [both(VIP, port), both(EXTERNAL, port)].concat()
}

fn sharing(name: &str, cluster_ip: Ipv4Addr, port: u16) -> Service {
    let mut service = service(&[Backend::Here, Backend::There], TARGET);
    service.name = name.into();
    service.cluster_ips = both(cluster_ip, 0).map(|it| it.ip()).into();
    service.external_ips = both(EXTERNAL, 0).map(|it| it.ip()).into();
    for it in &mut service.ports {
        (it.port, it.node_port) = (port, 0);
    }
    service
}

fn places(world: &World) -> [(&'static str, Place); 3] {
    let n1 = world.network.node("n1").unwrap();
    [("outside", world.outside()), ("a pod", n1.pod("here").unwrap().place()), ("the node", n1.place())]
}

/// Asks from everywhere, over TCP and UDP, and says what became of it.
fn assert_each(world: &World, to: &[SocketAddr], timeout: u64, what: &str, is_so: impl Fn(&Attempt) -> bool) {
    let places = places(world);
    let ask = |place: &Place, protocol| {
        client::connect(place, to, to.len(), &Manner { timeout, ..Manner::of(protocol) }).unwrap()
    };
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let asked = thread::scope(|scope| {
            let asking = places.each_ref().map(|(who, place)| (who, scope.spawn(move || ask(place, protocol))));
            asking.map(|(who, asking)| (who, asking.join().unwrap()))
        });
        for (who, attempts) in asked {
            assert!(attempts.iter().all(&is_so), "{who}, {protocol:?}, not {what}: {attempts:?}");
        }
    }
}

/// Who asks for a port that no Service has there is sent on: a VIP's other ports are not the proxy's.
fn assert_nobodys(world: &World, to: &[SocketAddr]) {
    let nobodys = |attempt: &Attempt| attempt.outcome != Outcome::Refused && attempt.outcome.server().is_none();
    assert_each(world, to, 300, "nobody's", nobodys);
}

fn assert_served(world: &World, to: &[SocketAddr]) {
    assert_each(world, to, 5000, "served", |attempt| attempt.outcome.server().is_some());
}

#[test]
fn of_two_services_on_one_address_the_one_that_goes_takes_nothing_from_the_other() {
    // Pods by their sockets, and packet by packet.
    for mut world in worlds().take(1).chain(worlds_with(&["--socket-lb", "host-only"]).skip(1)) {
        let ways: Vec<_> = [false, true].map(|v6| (at(EXTERNAL, 0, v6).ip(), at(N1, 0, v6).ip())).into();
        let routes: Vec<_> = ways.iter().map(|(ip, n1)| format!("route add {ip} via {n1}")).collect();
        world.network.router.ip(&routes).unwrap();
        let _servers = servers(&world, &[Backend::Here, Backend::There], TARGET);
        let other = sharing("other", OTHER_CLUSTER_IP, 81);
        world.manifests.apply("other.yaml", &other.objects()).unwrap();
        world.serve(&sharing("kept", CLUSTER_IP, 80));
        let (kept, others) = (shared(80), shared(81));
        let crowds = places(&world).map(|(who, place)| (who, Crowd::start(&place, &kept).unwrap()));
        // Connections of the one that goes end by themselves, too.
        let to = [kept[0], kept[3], others[0], others[3]];
        let hold = |place: &Place| to.map(|to| Held::start(place, to, Protocol::Tcp).unwrap());
        let held: Vec<_> = places(&world).iter().flat_map(|(_, place)| hold(place)).collect();
        world.agent.take().unwrap().terminate().unwrap();
        world.start();
        world.manifests.remove("other.yaml").unwrap();
        world.settle();
        assert_nobodys(&world, &to[2..]);
        world.manifests.apply("other.yaml", &other.objects()).unwrap();
        world.settle();
        assert_served(&world, &others);
        for (who, crowd) in crowds {
            crowd.nothing_lost().unwrap_or_else(|error| panic!("{who}: {error}"));
        }
        held.into_iter().for_each(|held| held.unbroken().unwrap());
        world.assert_served_as_entered();

        for file in ["other.yaml", "service.yaml"] {
            world.manifests.remove(file).unwrap();
        }
        world.settle();
        assert_nobodys(&world, &to);
    }
}
