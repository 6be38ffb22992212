//! Golden texts: what a sync of two services feeds to iptables-restore and to nft, and what one change adds to it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use millrace_bench::rivals::{
    Endpoint, Family, Node, Protocol, Service, ServicePort,
    iptables::rules::{Scope, restore_input},
    nftables::transaction::{full, partial},
};

fn node() -> Node {
    Node {
        addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        pod_cidrs: vec!["192.168.0.0/16".parse().unwrap(), "fd00:192::/32".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap(), "fd00:10:96::/48".parse().unwrap()],
    }
}

fn service(name: &str, cluster_ip: &str, node_port: u16, endpoints: &[&str]) -> Service {
    let endpoints =
        endpoints.iter().map(|address| Endpoint { address: address.parse().unwrap(), local: false }).collect();
    let port = ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port, endpoints };
    Service { namespace: "shop".into(), name: name.into(), cluster_ip: cluster_ip.parse().unwrap(), ports: vec![port] }
}

/// A service with a node port and two endpoints, one without endpoints, and one of the other family.
fn services() -> Vec<Service> {
    vec![
        service("web", "10.96.0.10", 30080, &["192.168.1.11:8080", "192.168.2.12:8080"]),
        service("idle", "10.96.0.11", 30081, &[]),
        service("web", "fd00:10:96::10", 30080, &["[fd00:192::11]:8080"]),
    ]
}

/// Equal, or the first line that is not.
fn assert_text(actual: &str, expected: &str) {
    for (number, (actual, expected)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(actual, expected, "line {}", number + 1);
    }
    assert_eq!(actual.lines().count(), expected.lines().count());
}

#[test]
fn iptables_is_laid_out_as_kube_proxy_lays_it_out() {
    for (family, expected) in
        [(Family::V4, include_str!("golden/iptables_v4.txt")), (Family::V6, include_str!("golden/iptables_v6.txt"))]
    {
        assert_text(&restore_input(&node(), family, &services(), Scope::Everything, &[]), expected);
    }
}

#[test]
fn a_partial_sync_of_iptables_writes_all_frontends_but_only_the_chains_that_changed() {
    let everything = restore_input(&node(), Family::V4, &services(), Scope::Everything, &[]);
    let nothing = restore_input(&node(), Family::V4, &services(), Scope::Only(&[]), &["KUBE-SEP-OLD".to_owned()]);
    assert!(nothing.contains("-j KUBE-SVC-") && nothing.contains("-j KUBE-EXT-"), "{nothing}");
    let own = |line: &str| {
        [":KUBE-SVC", ":KUBE-SEP", ":KUBE-EXT-", "-A KUBE-SVC", "-A KUBE-SEP", "-A KUBE-EXT-"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    assert!(!nothing.lines().any(|line| own(line) && line != ":KUBE-SEP-OLD - [0:0]"), "{nothing}");
    assert!(nothing.contains("\n-X KUBE-SEP-OLD\n"), "{nothing}");
    let key = services()[0].key();
    assert_text(&restore_input(&node(), Family::V4, &services(), Scope::Only(&[key]), &[]), &everything);
}

#[test]
fn a_large_cluster_does_without_comments_at_endpoints() {
    let many: Vec<String> = (0..=1000).map(|i| format!("192.168.{}.{}:8080", i / 250, i % 250)).collect();
    let many = [service("web", "10.96.0.10", 0, &many.iter().map(String::as_str).collect::<Vec<_>>())];
    let input = restore_input(&node(), Family::V4, &many, Scope::Everything, &[]);
    assert!(input.contains("shop/web:http cluster IP") && !input.contains("shop/web:http ->"));
    // One of 1001, then one of 1000: each endpoint is equally likely.
    assert!(input.contains("--probability 0.0009990010 ") && input.contains("--probability 0.0010000000 "));
}

#[test]
fn nftables_is_laid_out_as_kube_proxy_lays_it_out() {
    for (family, expected) in
        [(Family::V4, include_str!("golden/nftables_v4.txt")), (Family::V6, include_str!("golden/nftables_v6.txt"))]
    {
        let sync = full(&node(), family, &[], &services());
        assert_text(&sync.transaction, expected);
        assert_eq!(sync.stale, [] as [String; 0]);
    }
}

#[test]
fn a_change_of_nftables_touches_one_service_and_leaves_chains_that_are_gone_empty() {
    let before = &services()[0];
    let after = service("web", "10.96.0.10", 0, &["192.168.1.11:8080"]);
    let sync = partial(&node(), Family::V4, Some(before), Some(&after));
    assert_text(&sync.transaction, include_str!("golden/nftables_change.txt"));
    assert_eq!(sync.stale.len(), 2, "{sync:?}");

    let gone = partial(&node(), Family::V4, Some(before), None);
    assert_text(&gone.transaction, include_str!("golden/nftables_removal.txt"));
    assert_eq!(partial(&node(), Family::V4, None, None).transaction, "");
}

#[test]
fn a_service_whose_last_endpoint_goes_is_refused_where_it_was_served() {
    let (before, after) = (&services()[0], service("web", "10.96.0.10", 30080, &[]));
    let text = partial(&node(), Family::V4, Some(before), Some(&after)).transaction;
    for line in [
        "add element ip kube-proxy no-endpoint-services { 10.96.0.10 . tcp . 80 comment \"shop/web:http\" : goto reject-chain }",
        "delete element ip kube-proxy service-ips { 10.96.0.10 . tcp . 80 }",
        "delete element ip kube-proxy service-nodeports { tcp . 30080 }",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
}
