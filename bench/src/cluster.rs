//! The cluster that is measured: N services of one family or both, 10 endpoints each in every family, as the API
//! server would give them. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use millrace_agent::lb::Family;
use serde_json::{Value, json};

/// Endpoints of every service.
pub const ENDPOINTS: u32 = 10;
pub const NAMESPACE: &str = "bench";
/// The services' port; their target is [`TARGET_PORT`].
pub const PORT: u16 = 80;
pub const TARGET_PORT: u16 = 8080;
/// Ranges of the ClusterIPs.
pub const SERVICE_CIDRS: [&str; 2] = ["10.96.0.0/12", "fd00:96::/108"];

/// Address families of all services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
pub enum Families {
    #[value(name = "4")]
    #[serde(rename = "4")]
    V4,
    #[value(name = "6")]
    #[serde(rename = "6")]
    V6,
    #[serde(rename = "dual")]
    Dual,
}

impl Families {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "4",
            Self::V6 => "6",
            Self::Dual => "dual",
        }
    }

    /// As [`service`] and the rest take them.
    pub const fn each(self) -> &'static [Family] {
        match self {
            Self::V4 => &[Family::V4],
            Self::V6 => &[Family::V6],
            Self::Dual => &[Family::V4, Family::V6],
        }
    }
}

/// Name of service `i`, counted from 0.
pub fn name(i: u32) -> String {
    format!("s{i:06}")
}

/// ClusterIP of service `i`.
pub fn cluster_ip(i: u32, family: Family) -> IpAddr {
    // The first ones of a range are often taken.
    let host = i + 0x100;
    match family {
        Family::V4 => Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + host).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, (host >> 16) as u16, host as u16).into(),
    }
}

/// Addresses nobody has, for services that nobody calls: programming them costs the same.
pub fn absent_endpoints(i: u32) -> Vec<Ipv4Addr> {
    let first = u32::from(Ipv4Addr::new(100, 64, 0, 0)) + (i * ENDPOINTS) % (1 << 22);
    (0..ENDPOINTS).map(|k| Ipv4Addr::from(first + k)).collect()
}

/// Service `i`; one that is measured has a UDP port too.
pub fn service(i: u32, measured: bool, families: Families) -> Value {
    let ips: Vec<IpAddr> = families.each().iter().map(|family| cluster_ip(i, *family)).collect();
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
            "ipFamilies": families.each().iter().map(|family| name_of(*family)).collect::<Vec<_>>(),
            "ipFamilyPolicy": if families == Families::Dual { "RequireDualStack" } else { "SingleStack" },
            "ports": ports("targetPort"),
        },
    })
}

/// The slice of service `i` in one family.
pub fn slice(i: u32, endpoints: &[IpAddr]) -> Value {
    let family = endpoints.first().map_or("IPv4", |address| name_of(Family::of(*address)));
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

const fn name_of(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ipnet::IpNet;

    use super::*;

    #[test]
    fn each_of_a_hundred_thousand_services_has_addresses_of_its_own_in_the_ranges() {
        let ranges: Vec<IpNet> = SERVICE_CIDRS.iter().map(|range| range.parse().unwrap()).collect();
        for (family, range) in Families::Dual.each().iter().zip(ranges) {
            let ips: BTreeSet<IpAddr> = (0..100_000).map(|i| cluster_ip(i, *family)).collect();
            assert_eq!(ips.len(), 100_000);
            assert!(ips.iter().all(|ip| range.contains(ip)), "{family:?}");
        }
        let endpoints: BTreeSet<Ipv4Addr> = (0..100_000).flat_map(absent_endpoints).collect();
        assert_eq!(endpoints.len(), 1_000_000);
    }
}
