//! An EndpointSlice, with only the parts that decide where traffic goes.

use std::{fmt, net::IpAddr};

use super::{Protocol, ServiceKey};

/// Namespace and name of the slice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceKey {
    pub namespace: Box<str>,
    pub name: Box<str>,
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
    pub node: Option<Box<str>>,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// `hints.forZones`
    pub zones: Box<[Box<str>]>,
    /// `hints.forNodes`
    pub nodes: Box<[Box<str>]>,
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
