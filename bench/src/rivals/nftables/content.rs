//! What one service has in the `kube-proxy` table: elements of the shared maps, and chains of its own with their rules
//! (the loop of `syncProxyRules` and `writeServiceToEndpointRules` in pkg/proxy/nftables/proxier.go). Pure.

use std::collections::BTreeMap;

use super::{
    foundation::ip,
    names::{endpoint_chain, external_chain, service_chain},
};
use crate::rivals::service::{Node, Service, ServicePort};

/// An element's place: the set or map, and the key as nft writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) container: &'static str,
    pub(super) key: String,
}

/// What is found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Empty in a set.
    pub(super) verdict: String,
    /// Empty: none.
    pub(super) comment: String,
}

/// A chain and its rules, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) rules: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) elements: BTreeMap<Place, Found>,
    pub(super) chains: Vec<Chain>,
}

/// Everything of one service.
pub(super) fn content(node: &Node, service: &Service) -> Content {
    let mut content = Content::default();
    content.put("cluster-ips", service.cluster_ip.to_string(), String::new(), String::new());
    for port in &service.ports {
        if port.endpoints.is_empty() {
            refuse(&mut content, service, port);
        } else {
            serve(&mut content, node, service, port);
        }
    }
    content
}

fn refuse(content: &mut Content, service: &Service, port: &ServicePort) {
    let (goto, name) = ("goto reject-chain".to_owned(), service.port_name(port));
    content.put("no-endpoint-services", by_address(service, port), goto.clone(), name.clone());
    if port.node_port != 0 {
        content.put("no-endpoint-nodeports", by_node_port(port), goto, name);
    }
}

fn serve(content: &mut Content, node: &Node, service: &Service, port: &ServicePort) {
    let ip = ip(service.family());
    let chain = service_chain(service, port);
    content.put("service-ips", by_address(service, port), format!("goto {chain}"), String::new());
    if port.node_port != 0 {
        let external = external_chain(service, port);
        content.put("service-nodeports", by_node_port(port), format!("goto {external}"), String::new());
        let rules = vec!["jump mark-for-masquerade".to_owned(), format!("goto {chain}")];
        content.chains.push(Chain { name: external, rules });
    }

    let targets: Vec<_> =
        port.endpoints.iter().map(|to| (to.address, endpoint_chain(service, port, to.address))).collect();
    let choices: Vec<_> =
        targets.iter().enumerate().map(|(index, (_, chain))| format!("{index} : goto {chain}")).collect();
    let mut rules = Vec::new();
    if let Some(pods) = node.pod_cidr(service.family()) {
        rules.push(format!("{ip} daddr {} {ip} saddr != {pods} jump mark-for-masquerade", service.cluster_ip));
    }
    rules.push(format!("numgen random mod {} vmap {{ {} }}", choices.len(), choices.join(" , ")));
    content.chains.push(Chain { name: chain, rules });

    for (address, name) in targets {
        let rules = vec![
            // A pod that reaches itself must see another source, or it would answer to itself.
            format!("{ip} saddr {} jump mark-for-masquerade", address.ip()),
            format!("meta l4proto {} dnat to {address}", port.protocol.name()),
        ];
        content.chains.push(Chain { name, rules });
    }
}

fn by_address(service: &Service, port: &ServicePort) -> String {
    format!("{} . {} . {}", service.cluster_ip, port.protocol.name(), port.port)
}

fn by_node_port(port: &ServicePort) -> String {
    format!("{} . {}", port.protocol.name(), port.node_port)
}

impl Content {
    fn put(&mut self, container: &'static str, key: String, verdict: String, comment: String) {
        self.elements.insert(Place { container, key }, Found { verdict, comment });
    }
}
