//! Services and EndpointSlices as the API server has them.

use std::net::IpAddr;

use millrace_agent::lb::Family;
use serde_json::{Value, json};

use super::{Cluster, Families, NAMESPACE, PORT, TARGET_PORT, cluster_ip, name};

/// Service `i`; one that is measured has a UDP port too, and for clients outside a node port.
pub fn service(cluster: &Cluster, i: u32) -> Value {
    let (families, measured, node_port) = (cluster.families, cluster.is_measured(i), cluster.node_port(i));
    let ips: Vec<IpAddr> = families.each().iter().map(|family| cluster_ip(i, *family)).collect();
    let ports = |number: &str| -> Vec<Value> {
        let mut ports = vec![json!({ "name": "http", "protocol": "TCP", "port": PORT })];
        if measured {
            ports.push(json!({ "name": "dns", "protocol": "UDP", "port": PORT }));
        }
        for port in &mut ports {
            port[number] = json!(TARGET_PORT);
            if node_port != 0 {
                port["nodePort"] = json!(node_port);
            }
        }
        ports
    };
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name(i), "namespace": NAMESPACE },
        "spec": {
            "type": if node_port == 0 { "ClusterIP" } else { "NodePort" },
            "clusterIP": ips[0],
            "clusterIPs": ips,
            "ipFamilies": families.each().iter().map(|family| name_of(*family)).collect::<Vec<_>>(),
            "ipFamilyPolicy": if families == Families::Dual { "RequireDualStack" } else { "SingleStack" },
            "ports": ports("targetPort"),
        },
    })
}

/// The slice of service `i` in one family, its endpoints on this node.
pub fn slice(node: &str, i: u32, endpoints: &[IpAddr]) -> Value {
    let family = endpoints.first().map_or("IPv4", |address| name_of(Family::of(*address)));
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|address| {
            json!({
                "addresses": [address],
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "nodeName": node,
                "zone": "a",
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{}-{}", name(i), family.to_lowercase()),
            "namespace": NAMESPACE,
            "labels": { "kubernetes.io/service-name": name(i) },
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": [{ "name": "http", "protocol": "TCP", "port": TARGET_PORT },
                  { "name": "dns", "protocol": "UDP", "port": TARGET_PORT }],
    })
}

pub(super) const fn name_of(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
