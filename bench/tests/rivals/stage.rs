//! Where rivals are tried: a node with four pods, a client outside, and three services.
//!
//! ```text
//!  pods: client 192.168.1.10, p1 .11, p2 .12, bystander .13
//!     |
//!  [ node 10.0.0.1 ]--[ router ]--[ outside 203.0.113.9 ]
//! ```

use std::net::{Ipv4Addr, SocketAddr};

use millrace_bench::rivals::{Endpoint, Namespace, Node, Protocol, Service, ServicePort};
use millrace_tests::{
    address::in_family,
    client::{Running, serve},
    network::{Network, NodeSpec},
    place::Place,
};

const NODE: NodeSpec<'_> = NodeSpec { name: "n1", zone: "a", number: 1 };
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 10);
pub(crate) const P1: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
pub(crate) const P2: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
pub(crate) const BYSTANDER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 13);

pub(crate) const WEB: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
pub(crate) const OWN: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 11);
pub(crate) const IDLE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 12);
pub(crate) const WEB_NODE_PORT: u16 = 30080;
pub(crate) const IDLE_NODE_PORT: u16 = 30081;

/// With two endpoints the chance that one of them is never picked is 2 in 2^40.
pub(crate) const MANY: usize = 40;

pub(crate) struct Stage {
    pub(crate) network: Network,
    _servers: Vec<Running>,
}

impl Stage {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn namespace(&self) -> Namespace {
        Namespace::open(&self.network.node("n1").unwrap().netns.name).unwrap()
    }

    pub(crate) fn node(&self) -> Node {
        Node {
            addresses: self.network.node("n1").unwrap().addresses().into(),
            pod_cidrs: vec!["192.168.0.0/16".parse().unwrap(), "fd00:192:168::/48".parse().unwrap()],
            service_cidrs: vec!["10.96.0.0/16".parse().unwrap(), "fd00:10:96::/48".parse().unwrap()],
        }
    }

    pub(crate) fn pod(&self, name: &str) -> Place {
        self.network.node("n1").unwrap().pod(name).unwrap().place()
    }

    pub(crate) fn outside(&self) -> Place {
        Place { netns: self.network.outside.handle(), ..self.network.node("n1").unwrap().place() }
    }

    pub(crate) fn on_node(&self) -> Place {
        self.network.node("n1").unwrap().place()
    }
}

pub(crate) fn service(name: &str, address: Ipv4Addr, v6: bool, node_port: u16, pods: &[Ipv4Addr]) -> Service {
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
pub(crate) fn services() -> Vec<Service> {
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
