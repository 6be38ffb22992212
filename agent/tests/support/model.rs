//! What the maps must say, worked out from the objects in the plainest way.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use millrace_agent::{
    lb::{Family, Frontend},
    model::{Algorithm, Endpoint, Policy, Service, ServicePort},
};
use millrace_common::{frontend::FrontendKind, service::Attributes};

use super::{cluster::Cluster, pipeline::node};

/// What a set must say: the words of `dump`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expected {
    Unused,
    Reject,
    Drop,
    Endpoints(Algorithm, BTreeSet<SocketAddr>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedFrontend {
    pub kind: FrontendKind,
    pub cluster: Expected,
    pub local: Expected,
    pub attributes: Attributes,
    pub service: String,
}

pub fn expect(cluster: &Cluster) -> BTreeMap<Frontend, ExpectedFrontend> {
    let mut services: Vec<&Service> = cluster.services.values().collect();
    let age = |service: &Service| if service.created == 0 { i64::MAX } else { service.created };
    services.sort_by_key(|service| (age(service), service.key.clone()));
    let mut frontends = BTreeMap::new();
    for service in services {
        for port in &*service.ports {
            for (kind, addresses) in [
                (FrontendKind::ClusterIp, &service.cluster_ips),
                (FrontendKind::LoadBalancer, &service.load_balancer_vips),
                (FrontendKind::ExternalIp, &service.external_ips),
            ] {
                for &address in addresses {
                    let frontend = Frontend { address, port: port.port, protocol: port.protocol };
                    let (cluster, local, attributes) = record(cluster, service, port, Family::of(address));
                    let service = service.key.to_string();
                    frontends.entry(frontend).or_insert(ExpectedFrontend { kind, cluster, local, attributes, service });
                }
            }
            let families: BTreeSet<Family> = service.cluster_ips.iter().map(|ip| Family::of(*ip)).collect();
            let addresses = node().addresses.into_iter().filter(|ip| families.contains(&Family::of(*ip)));
            for address in addresses.filter(|_| port.node_port != 0) {
                let frontend = Frontend { address, port: port.node_port, protocol: port.protocol };
                let (cluster, local, attributes) = record(cluster, service, port, Family::of(address));
                let (kind, service) = (FrontendKind::NodePort, service.key.to_string());
                frontends.entry(frontend).or_insert(ExpectedFrontend { kind, cluster, local, attributes, service });
            }
        }
    }
    frontends
}

fn record(
    cluster: &Cluster,
    service: &Service,
    port: &ServicePort,
    family: Family,
) -> (Expected, Expected, Attributes) {
    let mut endpoints: BTreeMap<SocketAddr, &Endpoint> = BTreeMap::new();
    for slice in cluster.slices.values().filter(|slice| slice.service == service.key) {
        for number in slice.ports.iter().filter(|p| *p.name == *port.name && p.protocol == port.protocol) {
            for endpoint in slice.endpoints.iter().filter(|endpoint| Family::of(endpoint.address) == family) {
                let address = SocketAddr::new(endpoint.address, number.port);
                let rank = |e: &Endpoint| (e.terminating, !e.ready, !e.serving, e.node() != Some("n1"));
                let best = endpoints.entry(address).or_insert(endpoint);
                if rank(endpoint) < rank(best) {
                    *best = endpoint;
                }
            }
        }
    }
    let pick = |keep: &dyn Fn(&Endpoint) -> bool| -> BTreeSet<SocketAddr> {
        endpoints.iter().filter(|(_, endpoint)| keep(endpoint)).map(|(address, _)| *address).collect()
    };
    let draining = |endpoint: &Endpoint| endpoint.serving && endpoint.terminating;
    let is_local = |endpoint: &Endpoint| endpoint.node() == Some("n1");
    let first = |sets: Vec<BTreeSet<SocketAddr>>| sets.into_iter().find(|set| !set.is_empty()).unwrap_or_default();
    // The node is n1, in zone a.
    let ready = pick(&|e| e.ready);
    let is_hinted = |has: &dyn Fn(&Endpoint) -> bool| pick(&|e| e.ready && has(e)) == ready;
    let [for_node, for_zone] = [
        (is_hinted(&|e| !e.nodes().is_empty()), pick(&|e| e.ready && e.nodes().iter().any(|node| **node == *"n1"))),
        (is_hinted(&|e| !e.zones().is_empty()), pick(&|e| e.ready && e.zones().iter().any(|zone| **zone == *"a"))),
    ]
    .map(|(all_hinted, chosen)| if all_hinted { chosen } else { BTreeSet::new() });
    let any = !pick(&|endpoint| endpoint.ready || draining(endpoint)).is_empty();
    let say = |used: bool, set: BTreeSet<SocketAddr>| match (used, any, set.is_empty()) {
        (false, ..) => Expected::Unused,
        (true, false, _) => Expected::Reject,
        (true, true, true) => Expected::Drop,
        (true, true, false) => Expected::Endpoints(service.algorithm, set),
    };
    let mut outer = service.external_ips.iter().chain(&service.load_balancer_vips);
    let reachable = port.node_port != 0 || outer.any(|ip| Family::of(*ip) == family);
    let internal = service.internal_policy == Policy::Local;
    let external = service.external_policy == Policy::Local && reachable;
    let guarded = service.source_ranges.iter().any(|range| Family::of(range.addr()) == family);
    let flags = [
        (internal, Attributes::INTERNAL_LOCAL),
        (external, Attributes::EXTERNAL_LOCAL),
        (service.affinity_seconds.is_some(), Attributes::AFFINITY),
        (guarded, Attributes::SOURCE_RANGES),
    ];
    let flags = flags.into_iter().filter(|(holds, _)| *holds).fold(0, |all, (_, flag)| all | flag);
    (
        say(!internal || reachable, first(vec![for_node, for_zone, ready, pick(&draining)])),
        say(
            internal || external,
            first(vec![pick(&|e| e.ready && is_local(e)), pick(&|e| draining(e) && is_local(e))]),
        ),
        Attributes::new(flags, service.affinity_seconds.unwrap_or(0)),
    )
}
