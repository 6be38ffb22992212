//! Decides Service by Service: what the node wants of each, and which frontends another Service holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    Age, Claims, Frontend, HealthCheck, NodeInfo, WantedPort, health_check, host_ports, ports::of_the_node, wanted,
};
use crate::model::{Index, ServiceKey};

/// Remembers only who claims what; everything else is decided anew from the index each time.
#[derive(Debug, Default)]
pub struct Balancer {
    node: NodeInfo,
    claims: Claims,
}

/// What the node wants of one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Empty: nothing (any more).
    pub ports: Vec<WantedPort>,
    /// Frontends that the Service names and another one holds.
    pub conflicts: Vec<Conflict>,
    /// Addresses that the Service names and this node has itself: their traffic is the node's own business.
    pub of_the_node: BTreeSet<IpAddr>,
    /// What its load balancer is told.
    pub health_check: Option<HealthCheck>,
}

/// Two Services claim one frontend; the older one has it, and of two that do not say their age the first by name. A host
/// port gives way to any Service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{frontend} belongs to {holder}, which comes first (a Service before a host port, the older of two, or the first by \
     name); give one of them another address or port"
)]
pub struct Conflict {
    pub frontend: Frontend,
    pub holder: ServiceKey,
}

impl Balancer {
    #[must_use]
    pub fn new(node: NodeInfo) -> Self {
        Self { node, claims: Claims::default() }
    }

    #[must_use]
    pub fn node(&self) -> &NodeInfo {
        &self.node
    }

    /// Another zone or other addresses: the caller decides every Service anew.
    pub fn set_node(&mut self, node: NodeInfo) {
        self.node = node;
    }

    /// A Service from before has these frontends until it is decided on.
    pub fn hold(&mut self, service: &ServiceKey, frontends: &BTreeSet<Frontend>) {
        self.claims.claim(service, Age::HELD, frontends);
    }

    /// Decides the Services in `dirty`, and those that win or lose a frontend by it.
    pub fn decide(&mut self, index: &Index, mut dirty: BTreeSet<ServiceKey>) -> BTreeMap<ServiceKey, Decision> {
        let mut decisions = BTreeMap::new();
        // Ends: a claim changes only with its own Service, so that a Service decided twice affects nobody.
        while let Some(key) = dirty.pop_first() {
            let (decision, affected) = self.decide_one(index, &key);
            decisions.insert(key, decision);
            dirty.extend(affected);
        }
        decisions
    }

    fn decide_one(&mut self, index: &Index, key: &ServiceKey) -> (Decision, BTreeSet<ServiceKey>) {
        let service = index.service(key);
        let mut ports = service.map_or_else(Vec::new, |service| wanted(&self.node, service, index.slices(key)));
        let mut age = service.map_or(Age::UNKNOWN, |service| Age::of(service.created));
        if let Some(wanted) = index.host_ports(key) {
            ports = host_ports(&self.node, key, wanted);
            age = Age::HOST_PORT;
        }
        let claimed = ports.iter().flat_map(|port| port.frontends.keys().copied()).collect();
        let affected = self.claims.claim(key, age, &claimed);
        let mut conflicts = Vec::new();
        for port in &mut ports {
            port.frontends.retain(|frontend, _| match self.claims.holder(frontend) {
                Some(holder) if holder != key => {
                    conflicts.push(Conflict { frontend: *frontend, holder: holder.clone() });
                    false
                }
                _ => true,
            });
        }
        ports.retain(|port| !port.frontends.is_empty());
        let health_check = service.and_then(|service| health_check(&self.node, service, index.slices(key)));
        let of_the_node = service.map_or_else(BTreeSet::new, |service| of_the_node(&self.node, service));
        (Decision { ports, conflicts, of_the_node, health_check }, affected)
    }
}
