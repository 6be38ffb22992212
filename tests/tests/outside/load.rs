//! Clients outside that never stop, while the agent dies and comes back and the Service becomes another: only what a
//! change means to break breaks.

use std::{net::SocketAddr, thread, time::Duration};

use millrace_tests::{
    address::both,
    client,
    crowd::{Crowd, Held, manner},
    manifests::{LoadBalancer, Service},
    probe::{Manner, Outcome, Protocol},
};

use crate::world::{Backend, CLUSTER_IP, N1, NODE_PORT, VIP, World, node_port, servers, service, worlds};

const PORT: u16 = 8070;
const OTHER_NODE_PORT: u16 = 30_090;

fn crowd(world: &World, to: &[SocketAddr]) -> Crowd {
    Crowd::start(&world.outside(), to).unwrap()
}

fn hold(world: &World, to: SocketAddr) -> Held {
    Held::start(&world.outside(), to, Protocol::Tcp).unwrap()
}

#[test]
fn clients_outside_notice_nothing_of_an_agent_that_is_killed_and_comes_back() {
    for mut world in worlds() {
        let _servers = servers(&world, &Backend::ALL, PORT);
        world.serve(&service(&Backend::ALL, PORT));
        let to = [both(N1, NODE_PORT), both(VIP, 80), both(CLUSTER_IP, 80)].concat();
        let clients = crowd(&world, &to);
        // Each is served by another backend, as a rule.
        let held: Vec<_> = to.iter().map(|to| hold(&world, *to)).collect();
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
        clients.nothing_lost().unwrap();
        held.into_iter().for_each(|held| held.unbroken().unwrap());
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
        let unchanged = crowd(&world, &to);
        let mut held: Vec<_> = (0..6).map(|i| hold(&world, to[i % 2])).collect();
        held.push(hold(&world, both(VIP, 80)[0]));

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
        unchanged.nothing_lost().unwrap();

        // Another node port: the old one is nobody's, the ClusterIP goes on.
        let cluster_ip = both(CLUSTER_IP, 80);
        let unchanged = crowd(&world, &cluster_ip);
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
        unchanged.nothing_lost().unwrap();
        held.into_iter().for_each(|held| held.unbroken().unwrap());
        world.assert_served_as_entered();
    }
}
