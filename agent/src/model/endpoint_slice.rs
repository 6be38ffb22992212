//! An EndpointSlice, with only the parts that decide where traffic goes.

mod from_resource;

use std::{fmt, net::IpAddr, sync::Arc};

use super::{Protocol, ServiceKey};

/// Namespace and name of the slice, as in `shop/cart-x7k2p`: one shared text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceKey(Arc<str>);

impl SliceKey {
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self([namespace, "/", name].concat().into())
    }

    #[must_use]
    pub fn namespace(&self) -> &str {
        self.parts().0
    }

    /// Namespace and name.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or(("", &self.0))
    }
}

impl fmt::Display for SliceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A slice's port; one without a number never gets here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlicePort {
    /// Matches the Service port's name.
    pub name: Box<str>,
    pub protocol: Protocol,
    pub port: u16,
}

/// One endpoint, its conditions defaulted (ready and serving true, terminating false when unset).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub address: IpAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// `None`: nothing is known of it. Shared by all endpoints of which the same is known: there are many times more
    /// endpoints in a cluster than anything else.
    pub topology: Option<Arc<Topology>>,
}

/// Where an endpoint is, and where it should be used from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Topology {
    /// `nodeName`
    pub node: Option<Box<str>>,
    /// `hints.forZones`
    pub zones: Box<[Box<str>]>,
    /// `hints.forNodes`
    pub nodes: Box<[Box<str>]>,
}

impl Endpoint {
    /// The node that it runs on.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.topology.as_ref()?.node.as_deref()
    }

    /// The zones that it is hinted for.
    #[must_use]
    pub fn zones(&self) -> &[Box<str>] {
        self.topology.as_ref().map_or(&[], |topology| &topology.zones)
    }

    /// The nodes that it is hinted for.
    #[must_use]
    pub fn nodes(&self) -> &[Box<str>] {
        self.topology.as_ref().map_or(&[], |topology| &topology.nodes)
    }
}

/// All its endpoints are of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    pub key: SliceKey,
    /// From the label `kubernetes.io/service-name`.
    pub service: ServiceKey,
    /// Shared by all slices with the same ones.
    pub ports: Arc<[SlicePort]>,
    pub endpoints: Box<[Endpoint]>,
    /// `endpoints.kubernetes.io/last-change-trigger-time`, milliseconds since 1970.
    pub triggered: Option<i64>,
}

impl EndpointSlice {
    /// True when traffic goes where it went before: only the trigger time may differ.
    #[must_use]
    pub fn decides_like(&self, other: &Self) -> bool {
        self.service == other.service && self.ports == other.ports && self.endpoints == other.endpoints
    }
}
