//! Whether a node is taken for its load balancers, byte by byte.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::cluster::{Cluster, service, slice};

const PORT: u16 = 31_235;

fn node(more: Value) -> Value {
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
    });
    if let Value::Object(fields) = more {
        fields.into_iter().for_each(|(field, value)| node["metadata"][field] = value);
    }
    node
}

#[test]
fn a_load_balancer_reads_whose_endpoints_it_asked_about_and_how_many_there_are() {
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": PORT,
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30_087}],
    });
    let cart = service("cart", Ipv4Addr::new(10, 96, 15, 1), spec);
    let cluster = Cluster::start([cart, slice("cart", "n1", None)], &[]);
    for (endpoint_on, status, local) in [("n1", 200, 1), ("n2", 503, 0)] {
        cluster.server.apply(slice("cart", endpoint_on, None));
        cluster.until("the load balancer is told", |cluster| {
            cluster.ask(PORT, "/any/path").is_some_and(|answer| answer.status == status)
        });
        let answer = cluster.ask(PORT, "/").unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&answer.body).unwrap(),
            json!({
                "service": {"namespace": "shop", "name": "cart"}, "localEndpoints": local, "serviceProxyHealthy": true,
            })
        );
        let weight = local.to_string();
        for (header, value) in [
            ("content-type", "application/json"),
            ("x-content-type-options", "nosniff"),
            ("x-load-balancing-endpoint-weight", &weight),
        ] {
            assert_eq!(answer.header(header), value, "{answer:?}");
        }
    }
}

#[test]
fn a_node_that_is_being_deleted_gets_no_new_connections() {
    let cluster = Cluster::start([node(json!({}))], &[]);
    for (more, status, eligible) in [
        (json!({}), 200, true),
        (json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), 503, false),
        (json!({}), 200, true),
    ] {
        cluster.server.apply(node(more));
        cluster.until("load balancers are told whether the node goes", |cluster| {
            cluster.ask(10256, "/healthz").is_some_and(|answer| answer.status == status)
        });
        let body: Value = serde_json::from_str(&cluster.ask(10256, "/healthz").unwrap().body).unwrap();
        assert_eq!(body["nodeEligible"], json!(eligible), "{body}");
        assert!(["lastUpdated", "currentTime"].iter().all(|field| body[*field].is_string()), "{body}");
        let livez = cluster.ask(10256, "/livez").unwrap();
        assert!(livez.status == 200 && !livez.body.contains("nodeEligible"), "{livez:?}");
    }
}
