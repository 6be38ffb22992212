//! A Service and its slices become one wanted record per port and family.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use millrace_common::{frontend::FrontendKind, service::Attributes};

use super::{Candidate, Family, Frontend, NodeInfo, Policies, PortName, Set, WantedPort, categorize};
use crate::model::{EndpointSlice, Policy, Service, ServicePort};

/// What `node` should hold for `service`: each port once per family that the Service has an address in. Frontends
/// whose address is assigned on the node are left out (NodeLocal DNSCache; an external IP that is the node's own) but for
/// node ports, and so is a port that has no other.
///
/// `slices` in the order of their keys: it decides between two that contradict each other and are otherwise alike.
#[must_use]
pub fn wanted(node: &NodeInfo, service: &Service, slices: &[EndpointSlice]) -> Vec<WantedPort> {
    let mut ports = Vec::with_capacity(service.ports.len());
    for port in &*service.ports {
        for family in [Family::V4, Family::V6] {
            let frontends = frontends(node, service, port, family);
            if !frontends.is_empty() {
                ports.push(wanted_port(node, service, port, family, frontends, slices));
            }
        }
    }
    ports
}

/// The addresses of the Service's frontends that are left out because they are assigned on the node.
pub(super) fn of_the_node(node: &NodeInfo, service: &Service) -> BTreeSet<IpAddr> {
    addresses(service).map(|(address, _)| address).filter(|address| node.addresses.contains(address)).collect()
}

/// An address that is written twice comes first as the kind that guards more: source ranges bind VIPs, not external IPs.
fn addresses(service: &Service) -> impl Iterator<Item = (IpAddr, FrontendKind)> {
    fn of(addresses: &[IpAddr], kind: FrontendKind) -> impl Iterator<Item = (IpAddr, FrontendKind)> {
        addresses.iter().map(move |address| (*address, kind))
    }
    of(&service.cluster_ips, FrontendKind::ClusterIp)
        .chain(of(&service.load_balancer_vips, FrontendKind::LoadBalancer))
        .chain(of(&service.external_ips, FrontendKind::ExternalIp))
}

fn frontends(
    node: &NodeInfo,
    service: &Service,
    port: &ServicePort,
    family: Family,
) -> BTreeMap<Frontend, FrontendKind> {
    let mut frontends = BTreeMap::new();
    let here = |(ip, _): &(IpAddr, FrontendKind)| Family::of(*ip) == family && !node.addresses.contains(ip);
    for (address, kind) in addresses(service).filter(here) {
        let frontend = Frontend { address, port: port.port, protocol: port.protocol };
        frontends.entry(frontend).or_insert(kind);
    }
    if port.node_port != 0 && service.cluster_ips.iter().any(|ip| Family::of(*ip) == family) {
        for address in node.node_ports.of(node).filter(|ip| Family::of(*ip) == family) {
            let frontend = Frontend { address, port: port.node_port, protocol: port.protocol };
            frontends.entry(frontend).or_insert(FrontendKind::NodePort);
        }
    }
    frontends
}

fn wanted_port(
    node: &NodeInfo,
    service: &Service,
    port: &ServicePort,
    family: Family,
    frontends: BTreeMap<Frontend, FrontendKind>,
    slices: &[EndpointSlice],
) -> WantedPort {
    let of_family = |addresses: &[IpAddr]| addresses.iter().any(|ip| Family::of(*ip) == family);
    let policies = Policies {
        internal_local: service.internal_policy == Policy::Local,
        external_local: service.external_policy == Policy::Local,
        reachable: port.node_port != 0 || of_family(&service.load_balancer_vips) || of_family(&service.external_ips),
    };
    let candidates = candidates(node, port, family, slices);
    let categories = categorize(node, policies, &candidates);
    let mut serving = Vec::with_capacity(candidates.len());
    let serves = candidates.iter().filter(|candidate| candidate.endpoint.ready || candidate.endpoint.serving);
    serving.extend(serves.map(|candidate| candidate.address));
    let set = |members: Option<Vec<SocketAddr>>| match members {
        None => Set::Unused,
        Some(_) if !categories.any => Set::Reject,
        Some(members) if members.is_empty() => Set::Drop,
        Some(members) => Set::Endpoints(members),
    };
    WantedPort {
        name: PortName { service: service.key.clone(), port: port.label(), protocol: port.protocol, family },
        frontends,
        cluster: set(categories.cluster),
        local: set(categories.local),
        serving,
        algorithm: service.algorithm,
        attributes: attributes(service, family, policies),
        source_ranges: source_ranges(node, service, family),
    }
}

/// A node of the ranges may use the VIP by its own name: where the load balancer answers for the node, the VIP is the
/// source.
fn source_ranges(node: &NodeInfo, service: &Service, family: Family) -> BTreeSet<IpNet> {
    let ranges = service.source_ranges.iter().copied().filter(|range| Family::of(range.addr()) == family);
    let mut ranges: BTreeSet<IpNet> = ranges.collect();
    if node.addresses.iter().any(|ip| ranges.iter().any(|range| range.contains(ip))) {
        let vips = service.load_balancer_vips.iter().filter(|ip| Family::of(**ip) == family);
        ranges.extend(vips.map(|ip| IpNet::from(*ip)));
    }
    ranges
}

/// The endpoints of one port, each address once: the one that does not terminate wins, then the one that is ready.
fn candidates<'a>(
    node: &NodeInfo,
    port: &ServicePort,
    family: Family,
    slices: &'a [EndpointSlice],
) -> Vec<Candidate<'a>> {
    let mut candidates = Vec::with_capacity(slices.iter().map(|slice| slice.endpoints.len()).sum());
    for slice in slices {
        for matching in slice.ports.iter().filter(|p| *p.name == *port.name && p.protocol == port.protocol) {
            let of_family = slice.endpoints.iter().filter(|endpoint| Family::of(endpoint.address) == family);
            candidates.extend(
                of_family
                    .map(|endpoint| Candidate { address: SocketAddr::new(endpoint.address, matching.port), endpoint }),
            );
        }
    }
    candidates.sort_by_key(|Candidate { address, endpoint }| {
        let local = endpoint.node() == Some(&*node.name);
        (*address, endpoint.terminating, !endpoint.ready, !endpoint.serving, !local)
    });
    candidates.dedup_by_key(|candidate| candidate.address);
    candidates
}

fn attributes(service: &Service, family: Family, policies: Policies) -> Attributes {
    let mut flags = 0;
    for (holds, flag) in [
        (policies.internal_local, Attributes::INTERNAL_LOCAL),
        (policies.external_local && policies.reachable, Attributes::EXTERNAL_LOCAL),
        (service.affinity_seconds.is_some(), Attributes::AFFINITY),
        (service.source_ranges.iter().any(|range| Family::of(range.addr()) == family), Attributes::SOURCE_RANGES),
    ] {
        if holds {
            flags |= flag;
        }
    }
    Attributes::new(flags, service.affinity_seconds.unwrap_or(0))
}
