//! A node with a client, a server, another server, and a Service before the first.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use millrace_common::verdict::Verdict;
use millrace_tests::{
    address::twin,
    agent::Agent,
    client::{self, Running},
    manifests::{Endpoint, Manifests, Port, Service},
    network::Network,
    node::Node,
    pod::Pod,
    probe::{Manner, Protocol},
};

pub(super) const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 7, 10);
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
pub(super) const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 13);
/// The servers' port; the Service has it too, so that an address says it all.
pub(super) const TARGET: u16 = 8080;

pub(super) struct Scene {
    agent: Option<Agent>,
    manifests: Manifests,
    _serving: [Running; 2],
    network: Network,
}

/// In both families.
pub(super) fn both(v4: Ipv4Addr) -> [SocketAddr; 2] {
    [IpAddr::from(v4), twin(v4).into()].map(|ip| SocketAddr::new(ip, TARGET))
}

/// Whom a TCP connection to `to` has its packets from: sockets call a Service's backend itself.
pub(super) fn seen_from(to: SocketAddr) -> SocketAddr {
    let server = if to.is_ipv4() { SERVER.into() } else { twin(SERVER).into() };
    SocketAddr::new(server, TARGET)
}

impl Scene {
    pub(super) fn new(arguments: &[&str]) -> Self {
        let network = Network::of_one_node(&[("server", SERVER), ("other", OTHER), ("client", CLIENT)]).unwrap();
        let node = network.node("n1").unwrap();
        let serving =
            ["server", "other"].map(|name| client::serve(&node.pod(name).unwrap().place(), name, TARGET).unwrap());
        let manifests = Manifests::create().unwrap();
        manifests.apply("service.yaml", &service().objects()).unwrap();
        let agent = Agent::start(node, &manifests, arguments).unwrap();
        Self { agent: Some(agent), manifests, _serving: serving, network }
    }

    pub(super) fn node(&self) -> &Node {
        self.network.node("n1").unwrap()
    }

    pub(super) fn pod(&self, name: &str) -> &Pod {
        self.node().pod(name).unwrap()
    }

    /// The agent is gone, without a word to the programs.
    pub(super) fn kill_agent(&mut self) {
        self.agent.take().unwrap().kill().unwrap();
    }

    pub(super) fn start_agent(&mut self) {
        self.agent = Some(Agent::start(self.node(), &self.manifests, &[]).unwrap());
    }

    /// Packets that were handed over so far.
    pub(super) fn routed(&self) -> u64 {
        self.node().count(Verdict::HostRouted).unwrap()
    }

    /// Who answers the client.
    pub(super) fn ask(&self, to: SocketAddr, protocol: Protocol) -> Option<String> {
        let attempts = client::connect(&self.pod("client").place(), &[to], 1, &Manner::of(protocol)).unwrap();
        attempts.into_iter().find_map(|attempt| attempt.outcome.server().map(str::to_owned))
    }

    /// True if the client's question and its answer went past the stack.
    pub(super) fn goes_past(&self, to: SocketAddr) -> bool {
        let before = self.routed();
        self.ask(to, Protocol::Udp).is_some() && self.routed() >= before + 2
    }

    /// Neighbours are resolved, and the agent has looked.
    pub(super) fn wait_until_routed(&self) {
        for to in both(SERVER).into_iter().chain(both(OTHER)) {
            self.wait_until(&format!("packets to {to} go past the stack"), || self.goes_past(to));
        }
    }

    pub(super) fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_so() {
            let log = || self.agent.as_ref().map(Agent::log_tail).unwrap_or_default();
            assert!(Instant::now() < deadline, "not after 30 s: {what}\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn service() -> Service {
    let endpoint = |address| Endpoint { address, node: "n1".into(), terminating: false };
    let port = |name: &str, protocol: &str| Port {
        name: name.into(),
        protocol: protocol.into(),
        port: TARGET,
        target: TARGET,
        node_port: 0,
    };
    Service {
        name: "near".into(),
        cluster_ips: vec![VIP.into(), twin(VIP).into()],
        ports: vec![port("tcp", "TCP"), port("udp", "UDP")],
        endpoints: [IpAddr::from(SERVER), twin(SERVER).into()].map(endpoint).into(),
        ..Service::default()
    }
}
