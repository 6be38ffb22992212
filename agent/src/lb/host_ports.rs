//! A pod's host ports become wanted records as a Service's ports do: one endpoint, which is on this node.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use millrace_common::{frontend::FrontendKind, service::Attributes};

use super::{Family, Frontend, NodeInfo, NodePortAddresses, PortName, Set, WantedPort};
use crate::model::{Algorithm, HostPorts, PortMapping, ServiceKey};

/// What `node` should hold for the host ports of `owner`: each mapping once per family that the pod has an address in.
///
/// A mapping for all addresses is served on those that are reached from elsewhere, whatever `--nodeport-addresses` says; one
/// for an address that the node does not have, on none.
#[must_use]
pub fn host_ports(node: &NodeInfo, owner: &ServiceKey, wanted: &HostPorts) -> Vec<WantedPort> {
    let mut ports = Vec::with_capacity(wanted.mappings.len());
    for mapping in &*wanted.mappings {
        for pod in &*wanted.pod {
            let frontends = frontends(node, mapping, Family::of(*pod));
            if !frontends.is_empty() {
                ports.push(wanted_port(owner, mapping, *pod, frontends));
            }
        }
    }
    ports
}

fn frontends(node: &NodeInfo, mapping: &PortMapping, family: Family) -> BTreeMap<Frontend, FrontendKind> {
    let addresses: Vec<IpAddr> = match mapping.host {
        Some(host) => node.addresses.get(&host).copied().into_iter().collect(),
        None => NodePortAddresses::default().of(node).collect(),
    };
    let of_family = addresses.into_iter().filter(|ip| Family::of(*ip) == family);
    let frontend = |address| Frontend { address, port: mapping.host_port, protocol: mapping.protocol };
    of_family.map(|address| (frontend(address), FrontendKind::HostPort)).collect()
}

fn wanted_port(
    owner: &ServiceKey,
    mapping: &PortMapping,
    pod: IpAddr,
    frontends: BTreeMap<Frontend, FrontendKind>,
) -> WantedPort {
    let number = mapping.host_port;
    let port = mapping.host.map_or_else(|| number.to_string(), |host| format!("{number}@{host}"));
    let family = Family::of(pod);
    let endpoint = vec![SocketAddr::new(pod, mapping.pod_port)];
    WantedPort {
        name: PortName { service: owner.clone(), port: port.into(), protocol: mapping.protocol, family },
        frontends,
        cluster: Set::Endpoints(endpoint.clone()),
        local: Set::Endpoints(endpoint.clone()),
        serving: endpoint,
        algorithm: Algorithm::Random,
        // The pod is here and answers this way: it may see who its client is.
        attributes: Attributes::new(Attributes::EXTERNAL_LOCAL, 0),
        source_ranges: BTreeSet::new(),
    }
}
