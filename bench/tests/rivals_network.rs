//! Each rival that this kernel can do, with real connections in network namespaces: it must do what kube-proxy does, or
//! a comparison with it says nothing. Needs root.
//!
//! ```text
//!  pods: client 192.168.1.10, p1 .11, p2 .12, bystander .13
//!     |
//!  [ node 10.0.0.1 ]--[ router ]--[ outside 203.0.113.9 ]
//! ```
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
    time::Instant,
};

use millrace_bench::rivals::{
    Backend, Endpoint, Iptables, Ipvs, Namespace, Nftables, Node, Protocol, Rival, Service, ServicePort,
};
use millrace_tests::{
    address::in_family,
    client::{Running, connect, serve},
    network::{Network, NodeSpec},
    place::Place,
    probe::{self, Attempt, Manner, Outcome},
};

const NODE: NodeSpec<'_> = NodeSpec { name: "n1", zone: "a", number: 1 };
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 10);
const P1: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const P2: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const BYSTANDER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 13);

const WEB: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 11);
const IDLE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 12);
const WEB_NODE_PORT: u16 = 30080;
const IDLE_NODE_PORT: u16 = 30081;

/// With two endpoints the chance that one of them is never picked is 2 in 2^40.
const MANY: usize = 40;

struct Stage {
    network: Network,
    _servers: Vec<Running>,
}

impl Stage {
    fn new() -> Self {
        let mut network = Network::create(&[NODE]).unwrap();
        for v6 in [false, true] {
            let (range, length) = (in_family(Ipv4Addr::new(10, 96, 0, 0), v6), if v6 { 48 } else { 16 });
            let node = in_family(Ipv4Addr::new(10, 0, 0, 1), v6);
            network.router.ip(&[format!("route add {range}/{length} via {node}")]).unwrap();
        }
        let node = network.node_mut("n1").unwrap();
        for (name, address) in [("client", CLIENT), ("p1", P1), ("p2", P2), ("bystander", BYSTANDER)] {
            node.add_pod(name, address).unwrap();
        }
        let servers = ["p1", "p2", "bystander"];
        let servers = servers.map(|name| serve(&node.pod(name).unwrap().place(), name, 8080).unwrap()).into();
        Self { network, _servers: servers }
    }

    fn namespace(&self) -> Namespace {
        Namespace::open(&self.network.node("n1").unwrap().netns.name).unwrap()
    }

    fn node(&self) -> Node {
        Node {
            addresses: self.network.node("n1").unwrap().addresses().into(),
            pod_cidrs: vec!["192.168.0.0/16".parse().unwrap(), "fd00:192:168::/48".parse().unwrap()],
            service_cidrs: vec!["10.96.0.0/16".parse().unwrap(), "fd00:10:96::/48".parse().unwrap()],
        }
    }

    fn pod(&self, name: &str) -> Place {
        self.network.node("n1").unwrap().pod(name).unwrap().place()
    }

    fn outside(&self) -> Place {
        Place { netns: self.network.outside.handle(), ..self.network.node("n1").unwrap().place() }
    }

    fn on_node(&self) -> Place {
        self.network.node("n1").unwrap().place()
    }
}

fn service(name: &str, address: Ipv4Addr, v6: bool, node_port: u16, pods: &[Ipv4Addr]) -> Service {
    let endpoints: Vec<_> =
        pods.iter().map(|pod| Endpoint { address: SocketAddr::new(in_family(*pod, v6), 8080), local: true }).collect();
    let port = |name: &str, protocol| ServicePort {
        name: name.into(),
        protocol,
        port: 80,
        node_port,
        endpoints: endpoints.clone(),
    };
    Service {
        namespace: "shop".into(),
        name: name.into(),
        cluster_ip: in_family(address, v6),
        ports: vec![port("http", Protocol::Tcp), port("quic", Protocol::Udp)],
    }
}

/// Both families of three services.
fn services() -> Vec<Service> {
    [false, true]
        .into_iter()
        .flat_map(|v6| {
            [
                service("web", WEB, v6, WEB_NODE_PORT, &[P1, P2]),
                service("own", OWN, v6, 0, &[P1]),
                service("idle", IDLE, v6, IDLE_NODE_PORT, &[]),
            ]
        })
        .collect()
}

fn at(address: Ipv4Addr, v6: bool, port: u16) -> SocketAddr {
    SocketAddr::new(in_family(address, v6), port)
}

/// Connects `count` times; every one must be answered by whom it was sent to. Who answered, and whom they saw.
fn answers(
    from: &Place,
    to: SocketAddr,
    count: usize,
    protocol: probe::Protocol,
) -> (BTreeSet<String>, BTreeSet<IpAddr>) {
    let attempts = connect(from, &[to], count, &Manner::of(protocol)).unwrap();
    let answered = attempts.into_iter().map(|attempt| match attempt.outcome {
        Outcome::Answered { greeting, peer } => {
            assert_eq!(peer, to, "the reply to {to} was not translated back");
            (greeting.name, greeting.client.ip())
        }
        _ => panic!("{attempt:?}"),
    });
    answered.unzip()
}

fn once(from: &Place, to: SocketAddr) -> Attempt {
    connect(from, &[to], 1, &Manner::of(probe::Protocol::Tcp)).unwrap().remove(0)
}

/// Refused by ICMP, as kube-proxy refuses. A datagram's sender learns of it at once. TCP only when it sends its SYN
/// again after a second: the answer to the first comes while `connect` still holds the socket, since all is one machine.
fn assert_refused(from: &Place, to: SocketAddr) {
    assert_refused_within(from, to, probe::Protocol::Udp, 500.0);
    assert_refused_within(from, to, probe::Protocol::Tcp, 1500.0);
}

fn assert_refused_within(from: &Place, to: SocketAddr, protocol: probe::Protocol, milliseconds: f64) {
    let manner = Manner { timeout: 3000, ..Manner::of(protocol) };
    let attempt = connect(from, &[to], 1, &manner).unwrap().remove(0);
    assert_eq!(attempt.outcome, Outcome::Refused, "{protocol:?} to {to}");
    assert!(attempt.milliseconds < milliseconds, "{attempt:?}");
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

fn behaves_as_kube_proxy_does(rival: &mut dyn Rival, stage: &Stage) {
    println!("{}: {}", rival.name(), rival.version().unwrap());
    rival.program(services()).unwrap();
    let (client, outside, on_node) = (stage.pod("client"), stage.outside(), stage.on_node());
    for v6 in [false, true] {
        let node = in_family(Ipv4Addr::new(10, 0, 0, 1), v6);
        let web = at(WEB, v6, 80);
        // A pod reaches every endpoint and no other pod, with its own address.
        for protocol in [probe::Protocol::Tcp, probe::Protocol::UdpUnconnected] {
            let (servers, seen) = answers(&client, web, MANY, protocol);
            assert_eq!(servers, names(["p1", "p2"]), "{web}");
            assert_eq!(seen, BTreeSet::from([in_family(CLIENT, v6)]), "a pod's address is kept");
        }
        // What comes from neither pod nor node is masqueraded: the answer must come back this way.
        let (servers, seen) = answers(&outside, web, 4, probe::Protocol::Tcp);
        assert!(servers.is_subset(&names(["p1", "p2"])));
        assert_eq!(seen, BTreeSet::from([node]), "the outside is masqueraded on its way to a ClusterIP");
        // So is what comes to a node port.
        let (servers, seen) = answers(&outside, SocketAddr::new(node, WEB_NODE_PORT), MANY, probe::Protocol::Tcp);
        assert_eq!((servers, seen), (names(["p1", "p2"]), BTreeSet::from([node])));
        // The node's own processes.
        let (servers, seen) = answers(&on_node, web, MANY, probe::Protocol::Tcp);
        assert_eq!((servers, seen), (names(["p1", "p2"]), BTreeSet::from([node])));
        // A pod that reaches itself sees the node, or it would answer to itself.
        let (servers, seen) = answers(&stage.pod("p1"), at(OWN, v6, 80), 4, probe::Protocol::Tcp);
        assert_eq!((servers, seen), (names(["p1"]), BTreeSet::from([node])));
        // Without endpoints: refused on every frontend.
        for from in [&client, &outside] {
            assert_refused(from, at(IDLE, v6, 80));
        }
        // (The node's own datagrams fail with EPERM: its output chain refuses them.)
        assert_refused_within(&on_node, at(IDLE, v6, 80), probe::Protocol::Tcp, 1500.0);
        assert_refused(&outside, SocketAddr::new(node, IDLE_NODE_PORT));
    }
}

fn follows_changes(rival: &mut dyn Rival, stage: &Stage) {
    let client = stage.pod("client");
    for v6 in [false, true] {
        let web = at(WEB, v6, 80);
        let answered_by = || answers(&client, web, MANY, probe::Protocol::Tcp).0;
        rival.change(service("web", WEB, v6, WEB_NODE_PORT, &[P2])).unwrap();
        assert_eq!(answered_by(), names(["p2"]));
        rival.change(service("web", WEB, v6, WEB_NODE_PORT, &[P2, BYSTANDER])).unwrap();
        assert_eq!(answered_by(), names(["bystander", "p2"]));
        rival.change(service("web", WEB, v6, WEB_NODE_PORT, &[])).unwrap();
        assert_refused(&client, web);
        rival.change(service("web", WEB, v6, WEB_NODE_PORT, &[P1])).unwrap();
        assert_eq!(answered_by(), names(["p1"]));
        let new = service("new", Ipv4Addr::new(10, 96, 0, 20), v6, 0, &[P2]);
        rival.change(new.clone()).unwrap();
        let (servers, _) = answers(&client, SocketAddr::new(new.cluster_ip, 80), 4, probe::Protocol::Tcp);
        assert_eq!(servers, names(["p2"]));
        rival.remove(&new.key()).unwrap();
        let gone = once(&client, SocketAddr::new(new.cluster_ip, 80));
        assert_eq!(gone.outcome.server(), None, "{gone:?}");
        rival.remove(&new.key()).unwrap();
        assert_eq!(answered_by(), names(["p1"]), "the others stay");
    }
}

/// The last one is reached, and a change to it takes effect.
fn takes_a_thousand_services(rival: &mut dyn Rival, stage: &Stage) {
    let address = |i: usize| Ipv4Addr::new(10, 96, (1 + i / 250) as u8, (i % 250) as u8);
    let many = (0..1000).map(|i| service(&format!("s{i}"), address(i), false, 0, &[P1, P2])).collect();
    let start = Instant::now();
    rival.program(many).unwrap();
    println!("{}: 1,000 services in {:?}", rival.name(), start.elapsed());
    let (client, last) = (stage.pod("client"), at(address(999), false, 80));
    assert_eq!(answers(&client, last, MANY, probe::Protocol::Tcp).0, names(["p1", "p2"]));
    let start = Instant::now();
    rival.change(service("s999", address(999), false, 0, &[BYSTANDER])).unwrap();
    println!("{}: one change among them in {:?}", rival.name(), start.elapsed());
    assert_eq!(answers(&client, last, MANY, probe::Protocol::Tcp).0, names(["bystander"]));
}

fn is_gone_after_cleanup(rival: &mut dyn Rival, stage: &Stage) {
    rival.cleanup().unwrap();
    rival.cleanup().unwrap();
    let shown = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let savers = ["iptables-legacy-save", "iptables-nft-save", "ip6tables-legacy-save", "ip6tables-nft-save"];
    let node = &stage.network.node("n1").unwrap().netns;
    let left = node.run(|| savers.map(|saver| shown(saver, &[])).concat() + &shown("nft", &["list", "ruleset"]));
    let left = left.unwrap();
    assert!(!left.contains("KUBE-") && !left.contains("kube-proxy"), "{left}");
}

fn all(rival: &mut dyn Rival, stage: &Stage) {
    behaves_as_kube_proxy_does(rival, stage);
    follows_changes(rival, stage);
    takes_a_thousand_services(rival, stage);
    is_gone_after_cleanup(rival, stage);
}

#[test]
fn iptables_over_x_tables_does_what_kube_proxy_does() {
    let stage = Stage::new();
    all(&mut Iptables::new(stage.namespace(), Backend::Legacy, stage.node()), &stage);
}

#[test]
fn iptables_over_nf_tables_does_what_kube_proxy_does() {
    let stage = Stage::new();
    all(&mut Iptables::new(stage.namespace(), Backend::Nft, stage.node()), &stage);
}

#[test]
fn nftables_does_what_kube_proxy_does() {
    let stage = Stage::new();
    let mut rival = Nftables::new(stage.namespace(), stage.node());
    rival.program(services()).unwrap();
    for v6 in [false, true] {
        // Only this mode refuses ports that a ClusterIP does not have.
        assert_refused(&stage.pod("client"), at(WEB, v6, 81));
    }
    all(&mut rival, &stage);
}

/// Debian's kernels have IPVS and run this in a virtual machine; a kernel without it says so.
#[test]
fn ipvs_does_what_kube_proxy_does_where_the_kernel_has_it() {
    let stage = Stage::new();
    let mut rival = Ipvs::new(stage.namespace(), Backend::Nft, stage.node());
    if rival.is_supported().unwrap() {
        all(&mut rival, &stage);
    } else {
        eprintln!("SKIPPED: this kernel has no IPVS (CONFIG_IP_VS): it is tested in a virtual machine");
    }
}
