//! The cluster that is measured: N services, dual stack, 10 endpoints each, as the API server would give them. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

/// Endpoints of every service.
pub const ENDPOINTS: u32 = 10;
pub const NAMESPACE: &str = "bench";
/// The services' port; their target is [`TARGET_PORT`].
pub const PORT: u16 = 80;
pub const TARGET_PORT: u16 = 8080;
/// Ranges of the ClusterIPs.
pub const SERVICE_CIDRS: [&str; 2] = ["10.96.0.0/12", "fd00:96::/108"];

/// Name of service `i`, counted from 0.
pub fn name(i: u32) -> String {
    format!("s{i:06}")
}

/// ClusterIPs of service `i`, IPv4 first.
pub fn cluster_ips(i: u32) -> [IpAddr; 2] {
    let v4 = u32::from(Ipv4Addr::new(10, 96, 1, 0)) + i;
    [Ipv4Addr::from(v4).into(), Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, (i >> 16) as u16, i as u16 | 1 << 15).into()]
}

/// Addresses nobody has, for services that nobody calls: programming them costs the same.
pub fn absent_endpoints(i: u32) -> Vec<Ipv4Addr> {
    let first = u32::from(Ipv4Addr::new(100, 64, 0, 0)) + (i * ENDPOINTS) % (1 << 22);
    (0..ENDPOINTS).map(|k| Ipv4Addr::from(first + k)).collect()
}

/// Service `i`; one that is measured has a UDP port too.
pub fn service(i: u32, measured: bool) -> Value {
    let ips = cluster_ips(i);
    let ports = |number: &str| -> Vec<Value> {
        let mut ports = vec![json!({ "name": "http", "protocol": "TCP", "port": PORT })];
        if measured {
            ports.push(json!({ "name": "dns", "protocol": "UDP", "port": PORT }));
        }
        for port in &mut ports {
            port[number] = json!(TARGET_PORT);
        }
        ports
    };
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name(i), "namespace": NAMESPACE },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ips[0],
            "clusterIPs": ips,
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "RequireDualStack",
            "ports": ports("targetPort"),
        },
    })
}

/// The slice of service `i` in one family.
pub fn slice(i: u32, endpoints: &[IpAddr]) -> Value {
    let v6 = endpoints.first().is_some_and(IpAddr::is_ipv6);
    let family = if v6 { "IPv6" } else { "IPv4" };
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|address| {
            json!({
                "addresses": [address],
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "nodeName": "n1",
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
