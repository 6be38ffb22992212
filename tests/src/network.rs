//! Nodes that reach each other: each has an `uplink` to a router, which also leads to a client outside.
//!
//! ```text
//!  pods of n1                                      pods of n2
//!     |eniXXXX                                        |eniXXXX
//!  [ n1 10.0.0.1 ]--uplink--[ router ]--uplink--[ n2 10.0.0.2 ]
//!                               |
//!                     [ outside 203.0.113.9 ]
//! ```

use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use crate::{
    address::twin,
    bpffs, cable,
    netns::{self, Netns},
    node::Node,
    place,
};

/// The client that is neither pod nor node.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const OUTSIDE_GATEWAY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

/// A node to be: its name, its zone, its number (1 has 10.0.0.1 and pods in 192.168.1.0/24).
#[derive(Clone, Copy, Debug)]
pub struct NodeSpec<'a> {
    pub name: &'a str,
    pub zone: &'a str,
    pub number: u8,
}

/// The nodes and what joins them.
#[derive(Debug)]
pub struct Network {
    nodes: Vec<Node>,
    pub outside: Netns,
    pub router: Netns,
}

impl Network {
    /// One node, `n1` in zone `a`, with these pods.
    ///
    /// # Errors
    /// As [`Network::create`].
    pub fn of_one_node(pods: &[(&str, Ipv4Addr)]) -> Result<Self> {
        let mut network = Self::create(&[NodeSpec { name: "n1", zone: "a", number: 1 }])?;
        let node = network.node_mut("n1")?;
        for (name, address) in pods {
            node.add_pod(name, *address)?;
        }
        Ok(network)
    }

    /// # Errors
    /// Not root, no iproute2, or the kernel's.
    pub fn create(specs: &[NodeSpec<'_>]) -> Result<Self> {
        netns::sweep();
        place::sweep();
        bpffs::sweep();
        let router = Netns::create("router")?;
        router.sysctl(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
        router.ip(&[
            "link add nodes type bridge".to_owned(),
            "link set nodes up".to_owned(),
            format!("address add {ROUTER}/24 dev nodes"),
            format!("address add {}/64 dev nodes nodad", twin(ROUTER)),
        ])?;
        let outside = Netns::create("outside")?;
        router.ip(&[
            format!("link add outside type veth peer name eth0 netns {}", outside.name),
            "link set outside up".to_owned(),
            format!("address add {OUTSIDE_GATEWAY}/24 dev outside"),
            format!("address add {}/64 dev outside nodad", twin(OUTSIDE_GATEWAY)),
        ])?;
        outside.ip(&[
            "link set eth0 up".to_owned(),
            format!("address add {OUTSIDE}/24 dev eth0"),
            format!("address add {}/64 dev eth0 nodad", twin(OUTSIDE)),
            format!("route add default via {OUTSIDE_GATEWAY}"),
            format!("route add default via {}", twin(OUTSIDE_GATEWAY)),
        ])?;
        let mut network = Self { nodes: Vec::new(), outside, router };
        for spec in specs {
            network.join(*spec).with_context(|| format!("node {}", spec.name))?;
        }
        // Routes to each other's pods need the other's uplink to be up.
        for node in &network.nodes {
            for other in specs.iter().filter(|spec| spec.name != node.name) {
                let (prefix, address) = (pods(other.number), address(other.number));
                node.netns.ip(&[
                    format!("route add {prefix}/24 via {address}"),
                    format!("route add {}/64 via {}", twin(prefix), twin(address)),
                ])?;
            }
        }
        Ok(network)
    }

    /// From now on the nodes' uplinks lead to a router beyond a cable: see [`cable::like_a_cable`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn lay_cables(&self) -> Result<()> {
        self.router.run(|| self.nodes.iter().try_for_each(|node| cable::like_a_cable(&node.name)))?
    }

    fn join(&mut self, spec: NodeSpec<'_>) -> Result<()> {
        let (prefix, v4) = (pods(spec.number), address(spec.number));
        let node = Node::create(spec.name, spec.zone, v4)?;
        self.router.ip(&[
            format!("link add {} type veth peer name uplink netns {}", spec.name, node.netns.name),
            format!("link set {} master nodes up", spec.name),
            format!("route add {prefix}/24 via {v4}"),
            format!("route add {}/64 via {}", twin(prefix), twin(v4)),
        ])?;
        node.netns.ip(&[
            "link set uplink up".to_owned(),
            format!("address add {v4}/24 dev uplink"),
            format!("address add {}/64 dev uplink nodad", twin(v4)),
            format!("route add default via {ROUTER}"),
            format!("route add default via {}", twin(ROUTER)),
        ])?;
        node.netns.wait_for_address(twin(v4))?;
        self.nodes.push(node);
        Ok(())
    }

    /// # Errors
    /// If there is no such node.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| format!("there is no node {name}"))
    }

    /// # Errors
    /// If there is no such node.
    pub fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        self.nodes.iter_mut().find(|node| node.name == name).with_context(|| format!("there is no node {name}"))
    }

    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number)
}

fn pods(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, number, 0)
}
