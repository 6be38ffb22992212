//! Virtual and real servers as `ipvsadm --restore` reads them, and the addresses of kube-ipvs0 (`syncService` and
//! `syncEndpoint` in pkg/proxy/ipvs/proxier.go). Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use crate::rivals::{
    service::{Node, Protocol, Service},
    text::Lines,
};

/// `--ipvs-scheduler rr`, the default.
const SCHEDULER: &str = "rr";
/// The dummy device whose addresses make the kernel take packets to services as its own.
pub(super) const DEVICE: &str = "kube-ipvs0";

/// A virtual server: address, port, and `-t` or `-u`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Virtual {
    address: SocketAddr,
    option: &'static str,
}

/// One endpoint of a virtual server.
pub(super) type Real = (Virtual, SocketAddr);

/// Virtual servers with their endpoints.
pub(super) type Servers = BTreeMap<Virtual, BTreeSet<SocketAddr>>;

/// The servers of one service: at its ClusterIP, and for a node port at each address of the node.
pub(super) fn servers(node: &Node, service: &Service) -> Servers {
    let mut servers = Servers::new();
    for port in &service.ports {
        let option = match port.protocol {
            Protocol::Tcp => "-t",
            Protocol::Udp => "-u",
        };
        let endpoints: BTreeSet<_> = port.endpoints.iter().map(|to| to.address).collect();
        let at_node = node.addresses_of(service.family()).filter(|_| port.node_port != 0);
        let addresses = at_node.map(|address| SocketAddr::new(address, port.node_port));
        for address in std::iter::once(SocketAddr::new(service.cluster_ip, port.port)).chain(addresses) {
            servers.insert(Virtual { address, option }, endpoints.clone());
        }
    }
    servers
}

/// Input for `ipvsadm --restore`, and the real servers that it leaves with weight 0: they finish what they have
/// (`GracefulDeleteRS` in pkg/proxy/ipvs/graceful_termination.go).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) input: String,
    pub(super) terminating: Vec<Real>,
}

/// Turns one state into another; `terminating` are those that an earlier change left with weight 0.
pub(super) fn difference(before: &Servers, after: &Servers, terminating: &[Real]) -> Change {
    let mut lines = Lines::default();
    let mut change = Change::default();
    for gone in before.keys().filter(|server| !after.contains_key(server)) {
        lines.put(format_args!("-D {gone}"));
    }
    let none = BTreeSet::new();
    for (server, endpoints) in after {
        let known = before.get(server);
        if known.is_none() {
            lines.put(format_args!("-A {server} -s {SCHEDULER}"));
        }
        let known = known.unwrap_or(&none);
        for endpoint in endpoints.difference(known) {
            if terminating.contains(&(*server, *endpoint)) {
                lines.put(format_args!("-d {server} -r {endpoint}"));
            }
            lines.put(format_args!("-a {server} -r {endpoint} -m -w 1"));
        }
        for endpoint in known.difference(endpoints) {
            lines.put(format_args!("-e {server} -r {endpoint} -m -w 0"));
            change.terminating.push((*server, *endpoint));
        }
    }
    change.input = lines.into_string();
    change
}

/// Deletes real servers that have had their time.
pub(super) fn deletion(reals: &[Real]) -> String {
    reals.iter().map(|(server, endpoint)| format!("-d {server} -r {endpoint}\n")).collect()
}

/// Input for `ip -batch`.
pub(super) fn addresses(before: Option<IpAddr>, after: Option<IpAddr>) -> String {
    if before == after {
        return String::new();
    }
    let mut lines = Lines::default();
    if let Some(address) = before {
        lines.put(format_args!("address del {address} dev {DEVICE}"));
    }
    if let Some(address) = after {
        lines.put(format_args!("address replace {address} dev {DEVICE}"));
    }
    lines.into_string()
}

impl std::fmt::Display for Virtual {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.option, self.address)
    }
}
