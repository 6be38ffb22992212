//! UDP sockets of the node's own processes that have called connect() through a Service. No hook sees what they send
//! from then on: that they leave an endpoint that no longer serves is the work of the programs on the devices.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use millrace_common::verdict::Verdict;
use millrace_tests::{
    address::twin,
    agent::Agent,
    client::{self, Running, Stream},
    manifests::{Endpoint, Manifests, Port, Service},
    network::{Network, NodeSpec},
    probe::{Manner, Outcome, Protocol},
};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 9, 10);
const PATIENCE: Duration = Duration::from_secs(20);
/// Name, node and address.
const SERVERS: [(&str, &str, Ipv4Addr); 3] = [
    ("here", "n1", Ipv4Addr::new(192, 168, 1, 11)),
    ("too", "n1", Ipv4Addr::new(192, 168, 1, 12)),
    ("there", "n2", Ipv4Addr::new(192, 168, 2, 21)),
];

fn service(names: &[&str]) -> Service {
    let chosen = SERVERS.iter().filter(|(name, ..)| names.contains(name));
    let endpoint = |address, node: &str| Endpoint { address, node: node.into(), terminating: false };
    let endpoints = chosen.flat_map(|(_, node, v4)| [IpAddr::from(*v4), twin(*v4).into()].map(|ip| endpoint(ip, node)));
    Service {
        name: "resolver".into(),
        cluster_ips: vec![VIP.into(), twin(VIP).into()],
        ports: vec![Port { name: "dns".into(), protocol: "UDP".into(), port: 53, target: 8080, node_port: 0 }],
        endpoints: endpoints.collect(),
        ..Service::default()
    }
}

/// As an application names it: IPv4, IPv6, and IPv4 from a socket of IPv6.
fn named() -> [SocketAddr; 3] {
    [IpAddr::from(VIP), twin(VIP).into(), VIP.to_ipv6_mapped().into()].map(|ip| SocketAddr::new(ip, 53))
}

struct World {
    agent: Agent,
    manifests: Manifests,
    _servers: Vec<Running>,
    network: Network,
}

impl World {
    fn create() -> Self {
        let spec = |name, number| NodeSpec { name, zone: "a", number };
        let mut network = Network::create(&[spec("n1", 1), spec("n2", 2)]).unwrap();
        let mut servers = Vec::new();
        for (name, node, address) in SERVERS {
            let pod = network.node_mut(node).unwrap().add_pod(name, address).unwrap();
            servers.push(client::serve(&pod.place(), name, 8080).unwrap());
        }
        let manifests = Manifests::create().unwrap();
        manifests.apply("service.yaml", &service(&["here"]).objects()).unwrap();
        let agent = Agent::start(network.node("n1").unwrap(), &manifests, &[]).unwrap();
        Self { agent, manifests, _servers: servers, network }
    }

    fn serve(&mut self, names: &[&str]) {
        self.manifests.apply("service.yaml", &service(names).objects()).unwrap();
        self.agent.settle(&self.manifests).unwrap();
    }

    /// A connected socket for each way to name the service; its datagrams go to `server`.
    fn streams(&self, server: &str) -> Vec<Stream> {
        let manner = Manner { timeout: 300, every: 10, ..Manner::of(Protocol::Udp) };
        let place = self.network.node("n1").unwrap().place();
        let stream = |to| {
            let mut stream = Stream::start(&place, to, &manner).unwrap();
            stream.wait_for(PATIENCE, |outcome| outcome.server() == Some(server)).unwrap();
            stream
        };
        named().map(stream).into()
    }
}

/// On the same socket, from an endpoint on another node or on this one, which goes on answering whom it is asked by; to
/// an endpoint anywhere; and again.
#[test]
fn a_connected_socket_of_the_node_leaves_an_endpoint_that_no_longer_serves() {
    let mut world = World::create();
    for first in ["there", "here"] {
        world.serve(&[first]);
        let mut streams = world.streams(first);
        for next in ["too", "there", "here", "there", "too", first] {
            world.serve(&[next]);
            for (stream, to) in streams.iter_mut().zip(named()) {
                stream
                    .wait_for(PATIENCE, |outcome| outcome.server() == Some(next))
                    .unwrap_or_else(|error| panic!("{to}, at first {first}, to {next}: {error}"));
            }
        }
        // A socket that has a choice keeps it.
        let others: Vec<_> = SERVERS.iter().map(|(name, ..)| *name).filter(|name| *name != first).collect();
        world.serve(&others);
        for mut stream in streams {
            stream.wait_for(PATIENCE, |outcome| outcome.server().is_some_and(|name| name != first)).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            let said = stream.stop().unwrap();
            assert!(said.iter().all(|line| line.outcome == said[0].outcome), "{said:?}");
        }
    }
}

/// Nobody is left: the socket is told at once; a Service that goes takes its sockets along; a pod that goes with its
/// endpoint is left all the same.
#[test]
fn a_connected_socket_of_the_node_is_told_that_nobody_serves() {
    let mut world = World::create();
    for first in ["there", "here"] {
        world.serve(&[first]);
        let mut streams = world.streams(first);
        world.serve(&[]);
        for stream in &mut streams {
            stream.wait_for(PATIENCE, |outcome| *outcome == Outcome::Refused).unwrap();
        }
        world.serve(&["too"]);
        for stream in &mut streams {
            stream.wait_for(PATIENCE, |outcome| outcome.server() == Some("too")).unwrap();
        }
        let dropped = || world.network.node("n1").unwrap().count(Verdict::DropNoSuchService).unwrap();
        let before = dropped();
        world.manifests.remove("service.yaml").unwrap();
        for stream in &mut streams {
            stream.wait_for(PATIENCE, |outcome| outcome.server().is_none()).unwrap();
        }
        assert!(dropped() > before, "datagrams for a service that is gone were not counted");
    }
    world.serve(&["here"]);
    let mut streams = world.streams("here");
    world.network.node_mut("n1").unwrap().remove_pod("here");
    world.serve(&["too"]);
    for stream in &mut streams {
        stream.wait_for(PATIENCE, |outcome| outcome.server() == Some("too")).unwrap();
    }
}
