//! Clients outside that never stop, while the agent dies and comes back and the Service becomes another: only what a
//! change means to break breaks.

use std::{
    collections::BTreeSet,
    env,
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use millrace_tests::{
    client::{self, Load, Stream},
    manifests::{LoadBalancer, Service},
    probe::{Manner, Outcome, Protocol},
};

use crate::world::{Backend, CLUSTER_IP, N1, NODE_PORT, PATIENCE, VIP, World, at, node_port, servers, service, worlds};

const PORT: u16 = 8070;
const OTHER_NODE_PORT: u16 = 30_090;

fn both(ip: Ipv4Addr, port: u16) -> [SocketAddr; 2] {
    [false, true].map(|v6| at(ip, port, v6))
}

/// Every few milliseconds; an emulated machine would do nothing else.
fn manner(protocol: Protocol) -> Manner {
    let every = if env::var_os("MILLRACE_MACHINE").is_some() { 40 } else { 4 };
    Manner { every, timeout: 5000, ..Manner::of(protocol) }
}

fn loads(world: &World, to: &[SocketAddr]) -> Vec<(Protocol, Load)> {
    let start = |protocol| (protocol, Load::start(&world.outside(), to, 1, &manner(protocol)).unwrap());
    [Protocol::Tcp, Protocol::Udp].map(start).into()
}

fn nothing_lost(loads: Vec<(Protocol, Load)>, to: &[SocketAddr]) {
    for (protocol, load) in loads {
        let report = load.stop().unwrap();
        println!("{protocol:?}: {} answered, {} failed", report.total(), report.failed);
        assert_eq!(report.failed, 0, "{protocol:?}: {:#?}", report.failures);
        assert!(report.total() > 50 && report.answered.len() == to.len(), "{protocol:?}: too few: {report:?}");
    }
}

/// A connection that is there before anything happens, and who serves it.
fn long(world: &World, to: SocketAddr) -> Stream {
    let manner = Manner { timeout: 5000, every: 10, ..Manner::of(Protocol::Tcp) };
    let mut stream = Stream::start(&world.outside(), to, &manner).unwrap();
    stream.wait_for(PATIENCE, |outcome| outcome.server().is_some()).unwrap();
    stream
}

fn unbroken(stream: Stream, what: &str) {
    let lines = stream.stop().unwrap();
    let servers: BTreeSet<_> = lines.iter().map(|line| line.outcome.server()).collect();
    assert!(servers.len() == 1 && !servers.contains(&None), "{what} did not survive: {lines:?}");
}

#[test]
fn clients_outside_notice_nothing_of_an_agent_that_is_killed_and_comes_back() {
    for mut world in worlds() {
        let _servers = servers(&world, &Backend::ALL, PORT);
        world.serve(&service(&Backend::ALL, PORT));
        let to = [both(N1, NODE_PORT), both(VIP, 80), both(CLUSTER_IP, 80)].concat();
        let loads = loads(&world, &to);
        // Each is served by another backend, as a rule.
        let streams: Vec<_> = to.iter().map(|to| long(&world, *to)).collect();
        for kill in [true, false] {
            let churn = |world: &World| {
                for backends in [&Backend::ALL[..2], &Backend::ALL[2..], &Backend::ALL] {
                    world.manifests.apply("service.yaml", &service(backends, PORT).objects()).unwrap();
                    thread::sleep(Duration::from_millis(20));
                }
            };
            churn(&world);
            let agent = world.agent.take().unwrap();
            if kill { agent.kill() } else { agent.terminate() }.unwrap();
            churn(&world);
            thread::sleep(Duration::from_millis(100));
            world.start();
        }
        nothing_lost(loads, &to);
        for (stream, to) in streams.into_iter().zip(&to) {
            unbroken(stream, &format!("the connection to {to}"));
        }
        world.assert_served_as_entered();
    }
}

#[test]
fn a_service_that_becomes_another_breaks_only_what_it_means_to() {
    for mut world in worlds() {
        let _servers = servers(&world, &[Backend::Here, Backend::There], PORT);
        let cluster = service(&[Backend::Here, Backend::There], PORT);
        world.serve(&cluster);
        let to = [both(N1, NODE_PORT), both(CLUSTER_IP, 80)].concat();
        let unchanged = loads(&world, &to);
        let mut streams: Vec<_> = (0..6).map(|i| long(&world, to[i % 2])).collect();
        streams.push(long(&world, both(VIP, 80)[0]));

        // Another policy and back, no load balancer and back, affinity and back.
        let local = Service { external_local: true, ..cluster.clone() };
        let node_port_only = Service { load_balancer: None, ..cluster.clone() };
        let sticky = Service { affinity: Some(60), ..cluster.clone() };
        for other in [&local, &cluster, &node_port_only, &cluster, &sticky, &cluster, &local, &node_port_only] {
            world.serve(other);
            thread::sleep(Duration::from_millis(50));
        }
        let gone = both(VIP, 80);
        let attempts = client::connect(&world.outside(), &gone, 2, &Manner::of(Protocol::Tcp)).unwrap();
        assert!(attempts.iter().all(|attempt| attempt.outcome.server().is_none()), "{attempts:?}");
        nothing_lost(unchanged, &to);

        // Another node port: the old one is nobody's, the ClusterIP goes on.
        let cluster_ip = both(CLUSTER_IP, 80);
        let unchanged = loads(&world, &cluster_ip);
        let mut moved = cluster;
        moved.load_balancer = Some(LoadBalancer { vips: gone.map(|vip| vip.ip()).into(), ..LoadBalancer::default() });
        for port in &mut moved.ports {
            port.node_port = OTHER_NODE_PORT;
        }
        world.serve(&moved);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let ask = |to: &[SocketAddr]| client::connect(&world.outside(), to, 4, &manner(protocol)).unwrap();
            let old = ask(&[node_port(false), node_port(true)]);
            assert!(old.iter().all(|attempt| attempt.outcome == Outcome::Refused), "{protocol:?}: {old:?}");
            let new = ask(&both(N1, OTHER_NODE_PORT));
            assert!(new.iter().all(|attempt| attempt.outcome.server().is_some()), "{protocol:?}: {new:?}");
        }
        thread::sleep(Duration::from_millis(300));
        nothing_lost(unchanged, &cluster_ip);
        for stream in streams {
            unbroken(stream, "a connection");
        }
        world.assert_served_as_entered();
    }
}
