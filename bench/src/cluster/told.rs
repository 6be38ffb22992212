//! The services as kube-proxy's change trackers have them, which is what the rivals are told.

use std::net::{IpAddr, SocketAddr};

use millrace_agent::lb::Family;

use super::{Clients, Cluster, NAMESPACE, POD_CIDRS, PORT, SERVICE_CIDRS, TARGET_PORT, cluster_ip, name};
use crate::rivals::{Endpoint, Node, Protocol, Service, ServicePort};

/// All services of all families.
#[must_use]
pub fn services(cluster: &Cluster) -> Vec<Service> {
    let families = cluster.families.each();
    let of = |i| families.iter().map(move |family| service(cluster, i, *family, &cluster.endpoints_of(i, *family)));
    (0..cluster.services).flat_map(of).collect()
}

/// Service `i` with these endpoints.
#[must_use]
pub fn service(cluster: &Cluster, i: u32, family: Family, endpoints: &[IpAddr]) -> Service {
    let measured = cluster.is_measured(i);
    let local = measured && cluster.clients != Clients::Through;
    let endpoints: Vec<_> =
        endpoints.iter().map(|address| Endpoint { address: SocketAddr::new(*address, TARGET_PORT), local }).collect();
    let port = |name: &str, protocol| ServicePort {
        name: name.to_owned(),
        protocol,
        port: PORT,
        node_port: cluster.node_port(i),
        endpoints: endpoints.clone(),
    };
    let mut ports = vec![port("http", Protocol::Tcp)];
    if measured {
        ports.push(port("dns", Protocol::Udp));
    }
    Service { namespace: NAMESPACE.to_owned(), name: name(i), cluster_ip: cluster_ip(i, family), ports }
}

/// The node, as far as these services are concerned: an address in each of their families.
#[must_use]
pub fn node(cluster: &Cluster, addresses: &[IpAddr]) -> Node {
    let families = cluster.families.each();
    let parsed = |ranges: [&str; 2]| ranges.iter().filter_map(|range| range.parse().ok()).collect();
    Node {
        addresses: addresses.iter().copied().filter(|address| families.contains(&Family::of(*address))).collect(),
        pod_cidrs: parsed(POD_CIDRS),
        service_cidrs: parsed(SERVICE_CIDRS),
    }
}
