//! A Service, with only the parts that decide where traffic goes.

mod from_resource;

pub(in crate::model) use from_resource::protocol;

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use millrace_common::address::protocol as number;

/// Namespace and name, as in `shop/cart`. One shared text: the index, the claims and the mirror of the maps all hold it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey(Arc<str>);

impl ServiceKey {
    /// Namespace and name.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or(("", &self.0))
    }

    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self([namespace, "/", name].concat().into())
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `internalTrafficPolicy` and `externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    #[default]
    Cluster,
    Local,
}

/// How one of several endpoints is chosen for a new flow: the annotation `millrace.io/algorithm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    #[default]
    Random,
    /// The same for the same flow, on every node.
    Maglev,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// IANA number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => number::TCP,
            Self::Udp => number::UDP,
            Self::Sctp => number::SCTP,
        }
    }

    /// `None` for a word that Kubernetes does not write.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|protocol| protocol.name() == name)
    }

    /// As Kubernetes writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// Empty when the Service has one unnamed port.
    pub name: Arc<str>,
    pub protocol: Protocol,
    pub port: u16,
    /// 0: none.
    pub node_port: u16,
}

impl ServicePort {
    /// What tells this port from the Service's others of its protocol: its name, or its number where it has none.
    #[must_use]
    pub fn label(&self) -> Arc<str> {
        if self.name.is_empty() { self.port.to_string().into() } else { Arc::clone(&self.name) }
    }
}

/// A Service that a service proxy serves (headless ones, ExternalName and those of another proxy never get here).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub key: ServiceKey,
    /// Seconds since 1970 when it was created, 0 if unknown: of two Services that claim one frontend, the older wins.
    pub created: i64,
    pub cluster_ips: Box<[IpAddr]>,
    pub external_ips: Box<[IpAddr]>,
    /// `status.loadBalancer.ingress[].ip` with ipMode VIP (or none).
    pub load_balancer_vips: Box<[IpAddr]>,
    pub source_ranges: Box<[IpNet]>,
    /// Shared by all Services with the same ones.
    pub ports: Arc<[ServicePort]>,
    pub internal_policy: Policy,
    pub external_policy: Policy,
    pub algorithm: Algorithm,
    /// `sessionAffinity: ClientIP`: seconds that an idle client is remembered.
    pub affinity_seconds: Option<u32>,
    /// Where load balancers ask whether this node has local endpoints (`spec.healthCheckNodePort` of a load balancer's
    /// Service under `externalTrafficPolicy: Local`); 0: nowhere.
    pub health_check_port: u16,
}
