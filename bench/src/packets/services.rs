//! The services whose packets are measured: N of type LoadBalancer in both families, each with a VIP and three endpoints;
//! the first has a node port as well. Pure.

use std::net::{IpAddr, Ipv4Addr};

use millrace_agent::lb::Family;
use millrace_tests::address::{in_family, twin};
use serde_json::{Value, json};

use crate::cluster::{Clients, Cluster, Families, absent_endpoints, objects};

/// Of the first service: a cluster has 2,768 of them as a rule, so that the others are called by their VIPs.
pub(super) const NODE_PORT: u16 = 30_080;
const ENDPOINTS: usize = 3;

/// The external address of service `i`.
pub(super) fn vip(i: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 16, 0, 0)) + i)
}

/// The range that all endpoints are in, in each family.
pub(super) const ENDPOINT_RANGES: [&str; 2] = ["100.64.0.0/10", "fd00:100::/32"];

/// Service `i` of `services`, as the API server writes it.
pub(super) fn service(services: u32, i: u32) -> Value {
    let mut object = objects::service(&Cluster { services, families: Families::Dual, clients: Clients::Pods }, i);
    let spec = &mut object["spec"];
    spec["type"] = json!("LoadBalancer");
    spec["allocateLoadBalancerNodePorts"] = json!(false);
    if i == 0 {
        spec["ports"][0]["nodePort"] = json!(NODE_PORT);
    }
    object["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": vip(i) }, { "ip": twin(vip(i)) }] } });
    object
}

/// Its EndpointSlices.
pub(super) fn slices(i: u32) -> [Value; 2] {
    [Family::V4, Family::V6].map(|family| {
        let all = absent_endpoints(i).into_iter().take(ENDPOINTS);
        let addresses: Vec<IpAddr> = all.map(|v4| in_family(v4, family == Family::V6)).collect();
        objects::slice(Clients::Pods.node(), i, &addresses)
    })
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;

    #[test]
    fn endpoints_are_where_the_routes_lead() {
        let ranges = ENDPOINT_RANGES.map(|range| range.parse::<IpNet>().unwrap());
        for (slice, range) in [0, 1, 99_999].into_iter().flat_map(|i| slices(i).into_iter().zip(ranges)) {
            let endpoints = slice["endpoints"].as_array().unwrap();
            assert_eq!(endpoints.len(), ENDPOINTS);
            for endpoint in endpoints {
                let address: IpAddr = endpoint["addresses"][0].as_str().unwrap().parse().unwrap();
                assert!(range.contains(&address), "{address}");
            }
        }
    }
}
