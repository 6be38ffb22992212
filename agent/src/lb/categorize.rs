//! Which endpoints this node uses for a service port.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use super::NodePortAddresses;
use crate::model::{Endpoint, Node};

/// This node, as far as it matters to services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    pub name: Box<str>,
    /// `topology.kubernetes.io/zone`; `None`: hints for zones are ignored.
    pub zone: Option<Box<str>>,
    /// Addresses assigned in the host's namespace: a frontend with one of these is the node's own business.
    pub addresses: BTreeSet<IpAddr>,
    /// Its addresses to the cluster, at most one of each family.
    pub primary: Vec<IpAddr>,
    /// No Node object will name them: where the operator does not either, they are those that the node speaks as.
    pub stands_alone: bool,
    /// Where it answers to node ports.
    pub node_ports: NodePortAddresses,
}

impl NodeInfo {
    /// The node's own object fills in a zone and addresses that the operator did not name.
    #[must_use]
    pub fn with_object(mut self, node: &Node) -> Self {
        self.zone = self.zone.or_else(|| node.zone.clone());
        if self.primary.is_empty() {
            self.primary = node.addresses.to_vec();
        }
        self
    }
}

/// The parts of a service port that decide which sets it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    pub internal_local: bool,
    pub external_local: bool,
    /// Has a node port, a load balancer's VIP or an external IP.
    pub reachable: bool,
}

/// An endpoint of one service port.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub address: SocketAddr,
    pub endpoint: &'a Endpoint,
}

/// Sorted by address; `None`: the service port never uses the set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Categories {
    /// For traffic under policy Cluster.
    pub cluster: Option<Vec<SocketAddr>>,
    /// For traffic under policy Local.
    pub local: Option<Vec<SocketAddr>>,
    /// Some endpoint is usable somewhere in the cluster, reachable from here or not. With none, traffic is rejected;
    /// with some and an empty set, it is dropped.
    pub any: bool,
}

/// Chooses the endpoints of a service port on `node`, as kube-proxy's `CategorizeEndpoints` does
/// (<https://github.com/kubernetes/kubernetes/blob/release-1.33/pkg/proxy/topology.go>).
///
/// *The cluster set* is used unless the internal policy is Local and nothing outside reaches the port: even under an
/// external policy Local, traffic of this node to an external address is served by the whole cluster. It holds the
/// ready endpoints that the hints allow; if there is none, those that serve while they terminate, wherever they are.
///
/// *Hints* count only when every ready endpoint has one, and at least one ready endpoint is hinted for here; hints for
/// nodes come before hints for zones. They never apply to terminating endpoints, nor to the local set.
///
/// *The local set* is used when the internal policy is Local, or the external policy is and something outside reaches
/// the port. It holds the ready endpoints on this node; if there is none, those on this node that serve while they
/// terminate.
#[must_use]
pub fn categorize(node: &NodeInfo, policies: Policies, endpoints: &[Candidate<'_>]) -> Categories {
    let Policies { internal_local, external_local, reachable } = policies;
    let is_local = |candidate: &Candidate<'_>| candidate.endpoint.node() == Some(&*node.name);
    let cluster = (!internal_local || reachable).then(|| {
        let hints = Hints::of(node, endpoints);
        ready_or_draining(endpoints, |candidate| hints.allow(node, candidate), |_| true)
    });
    let local =
        (internal_local || (external_local && reachable)).then(|| ready_or_draining(endpoints, is_local, is_local));
    let any = endpoints.iter().any(|Candidate { endpoint, .. }| endpoint.ready || is_draining(endpoint));
    Categories { cluster, local, any }
}

/// Serves while it terminates.
fn is_draining(endpoint: &Endpoint) -> bool {
    endpoint.serving && endpoint.terminating
}

fn ready_or_draining(
    endpoints: &[Candidate<'_>],
    allow_ready: impl Fn(&Candidate<'_>) -> bool,
    allow_draining: impl Fn(&Candidate<'_>) -> bool,
) -> Vec<SocketAddr> {
    let addresses = |keep: &dyn Fn(&Candidate<'_>) -> bool| {
        let mut addresses = Vec::with_capacity(endpoints.len());
        addresses.extend(endpoints.iter().filter(|candidate| keep(candidate)).map(|candidate| candidate.address));
        addresses.sort_unstable();
        addresses
    };
    let ready = addresses(&|candidate| candidate.endpoint.ready && allow_ready(candidate));
    if !ready.is_empty() {
        return ready;
    }
    addresses(&|candidate| is_draining(candidate.endpoint) && allow_draining(candidate))
}

/// Which hints are in force.
#[derive(Clone, Copy)]
enum Hints {
    Ignored,
    Nodes,
    Zones,
}

impl Hints {
    fn of(node: &NodeInfo, endpoints: &[Candidate<'_>]) -> Self {
        let ready = || endpoints.iter().filter(|candidate| candidate.endpoint.ready);
        let in_force = |hints: Self, has_one: fn(&Endpoint) -> bool| {
            ready().all(|candidate| has_one(candidate.endpoint))
                && ready().any(|candidate| hints.allow(node, candidate))
        };
        if in_force(Self::Nodes, |endpoint| !endpoint.nodes().is_empty()) {
            Self::Nodes
        } else if in_force(Self::Zones, |endpoint| !endpoint.zones().is_empty()) {
            Self::Zones
        } else {
            Self::Ignored
        }
    }

    fn allow(self, node: &NodeInfo, candidate: &Candidate<'_>) -> bool {
        match self {
            Self::Ignored => true,
            Self::Nodes => candidate.endpoint.nodes().iter().any(|name| **name == *node.name),
            Self::Zones => candidate.endpoint.zones().iter().any(|zone| Some(&**zone) == node.zone.as_deref()),
        }
    }
}
