//! `/metrics` and `/proxyMode`, as Prometheus and `kubectl proxy` read them.

use std::net::{Ipv4Addr, SocketAddr};

use millrace_tests::{
    client,
    place::{self, Place},
    probe::{Manner, Protocol},
};
use serde_json::json;

use crate::cluster::{Cluster, service, slice};

const NODE_PORT: u16 = 30_086;

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 14, number)
}

#[test]
fn the_mode_and_the_content_types_are_on_the_wire() {
    let cluster = Cluster::start([], &[]);
    let mode = cluster.ask(10249, "/proxyMode").unwrap();
    assert_eq!((mode.status, mode.body.as_str(), mode.header("content-type")), (200, "ebpf", "text/plain"));
    let metrics = cluster.ask(10249, "/metrics").unwrap();
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"), "{metrics:?}");
    assert!(metrics.body.ends_with("# EOF\n"), "whole");
    for answer in [mode, metrics, cluster.ask(10256, "/healthz").unwrap(), cluster.ask(10256, "/nowhere").unwrap()] {
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{answer:?}");
    }
}

/// kube-proxy's names, with kube-proxy's meaning.
#[test]
fn dashboards_read_how_long_programming_took_and_who_has_no_local_endpoint() {
    let ports = json!([{"port": 80, "protocol": "TCP", "nodePort": NODE_PORT + 1}]);
    let local = [
        service("inside", address(1), json!({"internalTrafficPolicy": "Local"})),
        service("outside", address(2), json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": ports})),
    ];
    let slices = ["inside", "outside"].map(|name| slice(name, "n1", None));
    let cluster = Cluster::start(local.into_iter().chain(slices), &[]);
    let no_local =
        |policy| format!("kubeproxy_sync_proxy_rules_no_local_endpoints_total{{traffic_policy=\"{policy}\"}}");
    let took = "kubeproxy_network_programming_duration_seconds";
    for policy in ["internal", "external"] {
        cluster.until_metric(&no_local(policy), 0.0);
    }
    assert_eq!(cluster.metric(&format!("{took}_count")), Some(0.0), "what was there at the start tells nothing of it");

    cluster.server.apply(slice("inside", "n2", Some("2026-01-01T00:00:00Z")));
    cluster.until_metric(&no_local("internal"), 1.0);
    cluster.until_metric(&no_local("external"), 0.0);
    cluster.until_metric(&format!("{took}_count"), 1.0);
    // Since that day: far beyond the last bucket.
    assert!(cluster.metric(&format!("{took}_sum")).unwrap() > 86_400.0);
    assert_eq!(cluster.metric(&format!("{took}_bucket{{le=\"+Inf\"}}")), Some(1.0));

    cluster.server.apply(slice("outside", "n2", None));
    cluster.until_metric(&no_local("external"), 1.0);
    assert_eq!(cluster.metric(&format!("{took}_count")), Some(1.0), "a slice without the annotation");
}

#[test]
fn an_operator_reads_how_full_the_tables_are_and_who_holds_the_nodes_ports() {
    let ports = json!([{"port": 80, "protocol": "TCP", "nodePort": NODE_PORT}]);
    let spec = json!({"type": "NodePort", "ports": ports, "sessionAffinity": "ClientIP"});
    let cluster = Cluster::start([service("cart", address(1), spec)], &["--max-slots", "64", "--max-affinity", "128"]);
    cluster.until_metric("millrace_map_longest_free{map=\"SLOTS_V4\"}", 64.0);
    cluster.server.apply(slice("cart", "n1", None));
    // One slot is taken, so the longest run is half of them.
    cluster.until_metric("millrace_map_longest_free{map=\"SLOTS_V4\"}", 32.0);
    cluster.until_metric("millrace_map_longest_free{map=\"SLOTS_V6\"}", 64.0);
    cluster.until_metric("millrace_snat_flows{map=\"CT_V4\"}", 0.0);

    let manner = Manner::of(Protocol::Tcp);
    let node = cluster.node();
    let pod = node.pod("client").unwrap().place();
    let by_socket = client::connect(&pod, &[SocketAddr::from((address(1), 80))], 1, &manner).unwrap();
    assert_eq!(by_socket[0].outcome.server(), Some("server"));
    let outside = Place { netns: cluster.network.outside.handle(), cgroup: place::root().unwrap() };
    let by_node_port =
        client::connect(&outside, &[SocketAddr::new(node.address(false), NODE_PORT)], 1, &manner).unwrap();
    assert_eq!(by_node_port[0].outcome.server(), Some("server"));
    // With the next sweep.
    cluster.until_metric("millrace_snat_flows{map=\"CT_V4\"}", 1.0);
    cluster.until("the affinity of both is told", |cluster| {
        cluster.metric("millrace_map_used{map=\"AFFINITY_V4\"}").is_some_and(|used| used >= 1.0)
    });
    for (map, capacity) in [
        ("AFFINITY_V4", 128.0),
        ("AFFINITY_V6", 128.0),
        ("CT_NEW_V4", 16_384.0),
        ("FRAGMENTS_V6", 4_096.0),
        ("SOCKETS", 65_536.0),
        ("SOURCE_RANGES_V4", 65_536.0),
        ("SERVICE_CIDRS_V6", 256.0),
    ] {
        assert_eq!(cluster.metric(&format!("millrace_map_capacity{{map=\"{map}\"}}")), Some(capacity), "{map}");
        assert!(cluster.metric(&format!("millrace_map_used{{map=\"{map}\"}}")).is_some(), "{map}");
    }
}
