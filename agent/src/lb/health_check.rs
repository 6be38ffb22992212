//! What a load balancer is told that asks this node whether to send it a Service's traffic.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Family, NodeInfo};
use crate::model::{EndpointSlice, Service};

/// `spec.healthCheckNodePort` and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub port: u16,
    /// Ready endpoints on this node. Those that only terminate do not count, though they still serve.
    pub local_endpoints: usize,
}

/// `None`: nobody asks. A pod with an address in each family is one endpoint.
#[must_use]
pub fn health_check(node: &NodeInfo, service: &Service, slices: &[EndpointSlice]) -> Option<HealthCheck> {
    let endpoints = || slices.iter().flat_map(|slice| &slice.endpoints);
    let local = || endpoints().filter(|endpoint| endpoint.ready && endpoint.node() == Some(&*node.name));
    let count = |family| {
        let addresses = local().map(|endpoint| endpoint.address).filter(|ip| Family::of(*ip) == family);
        addresses.collect::<BTreeSet<IpAddr>>().len()
    };
    let port = service.health_check_port;
    (port != 0).then(|| HealthCheck { port, local_endpoints: count(Family::V4).max(count(Family::V6)) })
}
