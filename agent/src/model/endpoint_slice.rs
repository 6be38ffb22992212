//! An EndpointSlice, with only the parts that decide where traffic goes.

mod from_resource;

use std::{fmt, net::IpAddr, sync::Arc};

use super::{Protocol, ServiceKey};

/// Namespace and name of the slice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl SliceKey {
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for SliceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
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
    /// `nodeName`
    pub node: Option<Arc<str>>,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// `None`: has no hint at all. Shared by all endpoints with the same ones.
    pub hints: Option<Arc<Hints>>,
}

/// Where an endpoint should be used from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hints {
    /// `hints.forZones`
    pub zones: Box<[Box<str>]>,
    /// `hints.forNodes`
    pub nodes: Box<[Box<str>]>,
}

impl Endpoint {
    /// The zones that it is hinted for.
    #[must_use]
    pub fn zones(&self) -> &[Box<str>] {
        self.hints.as_ref().map_or(&[], |hints| &hints.zones)
    }

    /// The nodes that it is hinted for.
    #[must_use]
    pub fn nodes(&self) -> &[Box<str>] {
        self.hints.as_ref().map_or(&[], |hints| &hints.nodes)
    }
}

/// All its endpoints are of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    pub key: SliceKey,
    /// From the label `kubernetes.io/service-name`.
    pub service: ServiceKey,
    pub ports: Box<[SlicePort]>,
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
