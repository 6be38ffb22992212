//! What a service proxy is told: services of one address family, and the node that it runs on.
//!
//! Dual-stack objects are split by family first, as kube-proxy's two proxiers do it, so a dual-stack service is two
//! values here. Session affinity, source ranges, load balancer addresses, `Local` policies and health check ports are
//! absent: the services that are measured have none, and kube-proxy then writes no rule for them.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
pub use millrace_agent::lb::Family;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// In lower case, as every one of the tools wants it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// What tells one service from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    pub namespace: String,
    pub name: String,
    pub family: Family,
}

/// One family of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub cluster_ip: IpAddr,
    pub ports: Vec<ServicePort>,
}

/// One port of a Service, with the endpoints that its slices have for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty for the only, unnamed port of a service.
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    /// 0: none.
    pub node_port: u16,
    /// Ready ones only, of the service's family.
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// It runs on this node.
    pub local: bool,
}

impl Service {
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.cluster_ip)
    }

    #[must_use]
    pub fn key(&self) -> ServiceKey {
        ServiceKey { namespace: self.namespace.clone(), name: self.name.clone(), family: self.family() }
    }

    /// Whether the key names this service; no allocation, for searches among thousands.
    #[must_use]
    pub fn is(&self, key: &ServiceKey) -> bool {
        self.name == key.name && self.namespace == key.namespace && self.family() == key.family
    }

    /// `namespace/name:port`, as kube-proxy writes it into comments and hashes (`ServicePortName.String`).
    #[must_use]
    pub fn port_name(&self, port: &ServicePort) -> String {
        let colon = if port.name.is_empty() { "" } else { ":" };
        format!("{}/{}{colon}{}", self.namespace, self.name, port.name)
    }
}

/// The node whose rules are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where node ports answer; their families are the ones that are programmed.
    pub addresses: Vec<IpAddr>,
    /// `--cluster-cidr`, one per family: any other source is masqueraded on its way to a ClusterIP.
    pub pod_cidrs: Vec<IpNet>,
    /// The ranges of the ServiceCIDR objects: an address in them that no service has is dropped (nftables only).
    pub service_cidrs: Vec<IpNet>,
}

impl Node {
    /// The families that the node has an address of, IPv4 first.
    pub fn families(&self) -> impl Iterator<Item = Family> + use<'_> {
        [Family::V4, Family::V6].into_iter().filter(|family| self.addresses_of(*family).next().is_some())
    }

    pub fn addresses_of(&self, family: Family) -> impl Iterator<Item = IpAddr> + use<'_> {
        self.addresses.iter().copied().filter(move |address| Family::of(*address) == family)
    }

    #[must_use]
    pub fn pod_cidr(&self, family: Family) -> Option<IpNet> {
        self.pod_cidrs.iter().copied().find(|cidr| Family::of(cidr.addr()) == family)
    }

    pub fn service_cidrs_of(&self, family: Family) -> impl Iterator<Item = IpNet> + use<'_> {
        self.service_cidrs.iter().copied().filter(move |cidr| Family::of(cidr.addr()) == family)
    }
}
