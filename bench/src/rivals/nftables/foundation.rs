//! What is in the `kube-proxy` table without any service, as `setupNFTables` in pkg/proxy/nftables/proxier.go writes it
//! (kube-proxy 1.34). Why each hook: pkg/proxy/nftables/README.md. Pure.

use crate::rivals::{
    service::{Family, Node},
    text::Lines,
};

/// Base chains: name, type, hook, priority. What is filtered by service address must run before translation at -100,
/// what is refused because no translation happened after it.
const BASE_CHAINS: [(&str, &str, &str, i32); 8] = [
    ("filter-prerouting-pre-dnat", "filter", "prerouting", -110),
    ("filter-output-pre-dnat", "filter", "output", -110),
    ("filter-input", "filter", "input", 0),
    ("filter-forward", "filter", "forward", 0),
    ("filter-output", "filter", "output", 0),
    ("nat-prerouting", "nat", "prerouting", -100),
    ("nat-output", "nat", "output", -100),
    ("nat-postrouting", "nat", "postrouting", 100),
];

/// Jumps from base chains: to, from, only for new connections.
const JUMPS: [(&str, &str, bool); 11] = [
    ("nodeport-endpoints-check", "filter-input", true),
    ("service-endpoints-check", "filter-input", true),
    ("service-endpoints-check", "filter-forward", true),
    ("service-endpoints-check", "filter-output", true),
    ("firewall-check", "filter-prerouting-pre-dnat", true),
    ("firewall-check", "filter-output-pre-dnat", true),
    ("services", "nat-output", false),
    ("services", "nat-prerouting", false),
    ("masquerading", "nat-postrouting", false),
    ("cluster-ips-check", "filter-forward", true),
    ("cluster-ips-check", "filter-output", true),
];

/// The regular chains that the jumps lead to, and the one that services jump to.
const CHAINS: [&str; 7] = [
    "nodeport-endpoints-check",
    "service-endpoints-check",
    "firewall-check",
    "services",
    "masquerading",
    "cluster-ips-check",
    "mark-for-masquerade",
];

const BY_ADDRESS: &str = "inet_proto . inet_service : verdict";

/// Verdict maps: name, whether keyed by address too, comment.
const MAPS: [(&str, bool, &str); 5] = [
    ("no-endpoint-services", true, "vmap to drop or reject packets to services with no endpoints"),
    ("no-endpoint-nodeports", false, "vmap to drop or reject packets to service nodeports with no endpoints"),
    ("firewall-ips", true, "destinations that are subject to LoadBalancerSourceRanges"),
    ("service-ips", true, "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
    ("service-nodeports", false, "NodePort traffic"),
];

/// `ip` or `ip6`: nft's name of the family, and of its header in a rule.
pub(super) const fn ip(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// Makes the table, or empties all of it but the chains of services.
pub(super) fn foundation(tx: &mut Lines, node: &Node, family: Family) {
    let ip = ip(family);
    let address_type = match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    };
    tx.put(format_args!("add table {ip} kube-proxy {{ comment \"rules for kube-proxy\" ; }}"));
    for (name, kind, hook, priority) in BASE_CHAINS {
        tx.put(format_args!("add chain {ip} kube-proxy {name} {{ type {kind} hook {hook} priority {priority} ; }}"));
        tx.put(format_args!("flush chain {ip} kube-proxy {name}"));
    }
    for name in CHAINS {
        tx.put(format_args!("add chain {ip} kube-proxy {name}\nflush chain {ip} kube-proxy {name}"));
    }
    for (to, from, new_only) in JUMPS {
        let new = if new_only { "ct state new " } else { "" };
        tx.put(format_args!("add rule {ip} kube-proxy {from} {new}jump {to}"));
    }
    masquerading(tx, ip);
    cluster_ips(tx, node, family, address_type);
    tx.put(format_args!(
        "add set {ip} kube-proxy nodeport-ips {{ type {address_type} ; comment \"IPs that accept NodePort traffic\" ; }}"
    ));
    tx.put(format_args!("flush set {ip} kube-proxy nodeport-ips"));
    // `--nodeport-addresses primary`, this mode's default.
    for address in node.addresses_of(family) {
        tx.put(format_args!("add element {ip} kube-proxy nodeport-ips {{ {address} }}"));
    }
    for (name, by_address, comment) in MAPS {
        let key = if by_address { format!("{address_type} . ") } else { String::new() };
        tx.put(format_args!("add map {ip} kube-proxy {name} {{ type {key}{BY_ADDRESS} ; comment \"{comment}\" ; }}"));
        tx.put(format_args!("flush map {ip} kube-proxy {name}"));
    }
    dispatch(tx, ip);
}

fn masquerading(tx: &mut Lines, ip: &str) {
    tx.put(format_args!("add rule {ip} kube-proxy mark-for-masquerade mark set mark or 0x4000"));
    tx.put(format_args!("add rule {ip} kube-proxy masquerading mark and 0x4000 == 0 return"));
    tx.put(format_args!("add rule {ip} kube-proxy masquerading mark set mark xor 0x4000"));
    tx.put(format_args!("add rule {ip} kube-proxy masquerading masquerade fully-random"));
}

/// A packet that still has a service's address was not translated: the port is unknown, or the address has no service.
fn cluster_ips(tx: &mut Lines, node: &Node, family: Family, address_type: &str) {
    let ip = ip(family);
    tx.put(format_args!(
        "add set {ip} kube-proxy cluster-ips {{ type {address_type} ; comment \"Active ClusterIPs\" ; }}"
    ));
    tx.put(format_args!("flush set {ip} kube-proxy cluster-ips"));
    tx.put(format_args!(
        "add rule {ip} kube-proxy cluster-ips-check {ip} daddr @cluster-ips reject comment \
         \"Reject traffic to invalid ports of ClusterIPs\""
    ));
    let ranges: Vec<_> = node.service_cidrs_of(family).map(|cidr| cidr.to_string()).collect();
    if !ranges.is_empty() {
        tx.put(format_args!(
            "add rule {ip} kube-proxy cluster-ips-check {ip} daddr {{ {} }} drop comment \
             \"Drop traffic to unallocated ClusterIPs\"",
            ranges.join(",")
        ));
    }
}

/// The look-ups: one rule for all services, whatever their number.
fn dispatch(tx: &mut Lines, ip: &str) {
    tx.put(format_args!(
        "add chain {ip} kube-proxy reject-chain {{ comment \"helper for @no-endpoint-services / @no-endpoint-nodeports\" ; }}"
    ));
    tx.put(format_args!("flush chain {ip} kube-proxy reject-chain\nadd rule {ip} kube-proxy reject-chain reject"));
    let rules = [
        ("service-endpoints-check", format!("{ip} daddr . meta l4proto . th dport vmap @no-endpoint-services")),
        (
            "nodeport-endpoints-check",
            format!("{ip} daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports"),
        ),
        ("firewall-check", format!("{ip} daddr . meta l4proto . th dport vmap @firewall-ips")),
        ("services", format!("{ip} daddr . meta l4proto . th dport vmap @service-ips")),
        ("services", format!("{ip} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports")),
    ];
    for (chain, rule) in rules {
        tx.put(format_args!("add rule {ip} kube-proxy {chain} {rule}"));
    }
}
