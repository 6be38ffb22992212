//! Endpoints that come and go, as flows of a client outside see them.

use std::{net::SocketAddr, thread, time::Duration};

use millrace_tests::{
    client::{self, Stream},
    manifests::Service,
    probe::{Manner, Outcome, Protocol},
};

use crate::world::{Backend, CLUSTER_IP, Entry, PATIENCE, VIP, at, name, node_port, servers, service, worlds};

const PORT: u16 = 8070;

/// Datagrams of one socket go to a backend that serves, wherever it is, also after there was none; a connection stays
/// with an endpoint that terminates.
#[test]
fn flows_of_a_client_outside_follow_the_endpoints() {
    for mut world in worlds() {
        let _servers = servers(&world, &Backend::ALL, PORT);
        for external_local in [false, true] {
            let local = |backends: &[Backend]| Service { external_local, ..service(backends, PORT) };
            world.serve(&local(&[Backend::Here]));
            let manner = |protocol| Manner { timeout: 300, every: 10, ..Manner::of(protocol) };
            let stream = |protocol, v6| Stream::start(&world.outside(), node_port(v6), &manner(protocol)).unwrap();
            let mut datagrams = [false, true].map(|v6| stream(Protocol::Udp, v6));
            let mut connections = [false, true].map(|v6| {
                Stream::start(&world.outside(), node_port(v6), &Manner { timeout: 5000, ..manner(Protocol::Tcp) })
                    .unwrap()
            });
            for stream in datagrams.iter_mut().chain(&mut connections) {
                stream.wait_for(PATIENCE, |outcome| outcome.server() == Some("here")).unwrap();
            }
            let steps: &[&[Backend]] = if external_local {
                &[&[Backend::Host], &[], &[Backend::Here], &[Backend::Host]]
            } else {
                &[&[Backend::There], &[Backend::Host], &[], &[Backend::OtherHost], &[Backend::Here]]
            };
            for backends in steps {
                world.serve(&local(backends));
                let wanted = backends.first().map(|backend| name(*backend));
                for stream in &mut datagrams {
                    // Nobody anywhere is said at once.
                    let moved = |outcome: &Outcome| match &wanted {
                        Some(name) => outcome.server() == Some(name),
                        None => *outcome == Outcome::Refused,
                    };
                    stream
                        .wait_for(PATIENCE, moved)
                        .unwrap_or_else(|error| panic!("{external_local} {wanted:?}: {error}"));
                }
            }
            let mut terminating = local(&[Backend::Here, Backend::Host]);
            terminating.endpoints.iter_mut().for_each(|endpoint| endpoint.terminating = true);
            world.serve(&terminating);
            thread::sleep(Duration::from_millis(100));
            for stream in connections {
                let lines = stream.stop().unwrap();
                let kept = lines.iter().all(|line| line.outcome.server() == Some("here"));
                assert!(
                    kept && lines.last().is_some_and(|line| line.exchanges > 5),
                    "Local {external_local}: {lines:?}"
                );
            }
            let new =
                client::connect(&world.outside(), &[node_port(false), node_port(true)], 2, &manner(Protocol::Tcp));
            assert!(new.as_ref().unwrap().iter().all(|attempt| attempt.outcome.server().is_some()), "{new:?}");
        }
        world.assert_served_as_entered();
    }
}

/// A node port and a VIP that the Service gives up take their datagrams along, of the same sockets and at once; the
/// ClusterIP's stay with their backends.
#[test]
fn datagrams_leave_a_frontend_that_is_withdrawn_and_no_other() {
    for mut world in worlds() {
        let backends = [Backend::Here, Backend::There];
        let _servers = servers(&world, &backends, PORT);
        let whole = service(&backends, PORT);
        world.serve(&whole);
        let manner = Manner { timeout: 300, every: 10, ..Manner::of(Protocol::Udp) };
        let stream = |to: SocketAddr| {
            let mut stream = Stream::start(&world.outside(), to, &manner).unwrap();
            stream.wait_for(PATIENCE, |outcome| outcome.server().is_some()).unwrap();
            stream
        };
        let mut given_up = [node_port(false), node_port(true), at(VIP, 80, false), at(VIP, 80, true)].map(stream);
        let kept = [at(CLUSTER_IP, 80, false), at(CLUSTER_IP, 80, true)].map(stream);
        let mut less = Service { load_balancer: None, ..whole };
        less.ports.iter_mut().for_each(|port| port.node_port += 1);
        world.serve(&less);
        for stream in &mut given_up {
            stream.wait_for(PATIENCE, |outcome| outcome.server().is_none()).unwrap();
        }
        for stream in given_up {
            let lines = stream.stop().unwrap();
            let back =
                lines.iter().skip_while(|line| line.outcome.server().is_some()).any(|l| l.outcome.server().is_some());
            assert!(!back, "{lines:?}");
        }
        for stream in kept {
            let lines = stream.stop().unwrap();
            let first = lines[0].outcome.server();
            assert!(first.is_some() && lines.iter().all(|line| line.outcome.server() == first), "{lines:?}");
        }
        world.assert_served_as_entered();
    }
}

/// Session affinity is the Service's: a client outside is led to one backend by node port, VIP and ClusterIP, over TCP
/// and by itself over UDP.
#[test]
fn a_client_outside_stays_with_one_backend_over_all_frontends() {
    for mut world in worlds() {
        // XDP serves those of the other node, and which one is chosen is chance.
        let elsewhere = [Backend::There, Backend::OtherHost];
        let backends = if world.entry == Entry::Tc { &Backend::ALL[..] } else { &elsewhere };
        let _servers = servers(&world, backends, PORT);
        world.serve(&Service { affinity: Some(3600), ..service(backends, PORT) });
        for v6 in [false, true] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let to = [node_port(v6), at(VIP, 80, v6), at(CLUSTER_IP, 80, v6)];
                let attempts =
                    client::connect(&world.outside(), &to, 18, &Manner { timeout: 5000, ..Manner::of(protocol) })
                        .unwrap();
                let first = attempts[0].outcome.server();
                let same = attempts.iter().all(|attempt| attempt.outcome.server() == first);
                assert!(first.is_some() && same && attempts.len() == 18, "{attempts:?}");
            }
        }
        world.assert_served_as_entered();
    }
}

/// A pod that is the only backend reaches itself through the VIP, the node port and the external policy Local.
#[test]
fn a_pod_reaches_itself_through_the_vip_and_the_node_port() {
    // By no uplink: XDP has no part in it.
    for mut world in worlds().take(1) {
        let _servers = servers(&world, &[Backend::Here], PORT);
        let place = world.network.node("n1").unwrap().pod("here").unwrap().place();
        for external_local in [false, true] {
            world.serve(&Service { external_local, ..service(&[Backend::Here], PORT) });
            for v6 in [false, true] {
                for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::UdpUnconnected] {
                    let to = [at(VIP, 80, v6), node_port(v6)];
                    let attempts =
                        client::connect(&place, &to, 4, &Manner { timeout: 5000, ..Manner::of(protocol) }).unwrap();
                    let itself = |outcome: &Outcome| match outcome {
                        Outcome::Answered { greeting, peer } => greeting.name == "here" && to.contains(peer),
                        _ => false,
                    };
                    assert!(
                        attempts.len() == 4 && attempts.iter().all(|attempt| itself(&attempt.outcome)),
                        "{attempts:?}"
                    );
                }
            }
        }
    }
}
