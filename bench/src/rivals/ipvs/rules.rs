//! The iptables rules around IPVS: which packets to masquerade, which to refuse (`writeIptablesRules` in
//! pkg/proxy/ipvs/proxier.go). Their number does not depend on the services. Pure.

use super::sets::{
    CLUSTER_IP, EXTERNAL_IP, EXTERNAL_IP_LOCAL, HEALTH_CHECK_NODE_PORT, IPVS_IPS, LOAD_BALANCER, LOOP_BACK,
    NODE_PORT_TCP, NODE_PORT_UDP,
};
use crate::rivals::{
    iptables::{
        jumps::Jump,
        rules::{forward_by_mark, masquerade_by_mark},
    },
    service::{Family, Node, Protocol, Service},
    text::Lines,
};

const fn jump(table: &'static str, from: &'static str, to: &'static str, comment: &'static str) -> Jump {
    Jump { table, from, to, comment, new_only: false }
}

/// `iptablesJumpChain`.
pub(super) const JUMPS: [Jump; 9] = [
    jump("nat", "OUTPUT", "KUBE-SERVICES", "kubernetes service portals"),
    jump("nat", "PREROUTING", "KUBE-SERVICES", "kubernetes service portals"),
    jump("nat", "POSTROUTING", "KUBE-POSTROUTING", "kubernetes postrouting rules"),
    jump("filter", "FORWARD", "KUBE-FORWARD", "kubernetes forwarding rules"),
    jump("filter", "INPUT", "KUBE-NODE-PORT", "kubernetes health check rules"),
    jump("filter", "INPUT", "KUBE-PROXY-FIREWALL", "kube-proxy firewall rules"),
    jump("filter", "FORWARD", "KUBE-PROXY-FIREWALL", "kube-proxy firewall rules"),
    jump("filter", "INPUT", "KUBE-IPVS-FILTER", "kubernetes ipvs access filter"),
    jump("filter", "OUTPUT", "KUBE-IPVS-OUT-FILTER", "kubernetes ipvs access filter"),
];

const NAT_CHAINS: [&str; 5] =
    ["KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-NODE-PORT", "KUBE-LOAD-BALANCER", "KUBE-MARK-MASQ"];
const FILTER_CHAINS: [&str; 6] = [
    "KUBE-FORWARD",
    "KUBE-NODE-PORT",
    "KUBE-PROXY-FIREWALL",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
];

/// Which sets have entries: a rule that matches on an empty one is not written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Filled {
    loop_back: bool,
    cluster_ip: bool,
    node_port_tcp: bool,
    node_port_udp: bool,
}

fn filled(family: Family, services: &[Service]) -> Filled {
    let mut filled = Filled::default();
    let ports = services.iter().filter(|service| service.family() == family).flat_map(|service| &service.ports);
    for port in ports {
        filled.cluster_ip = true;
        filled.loop_back |= port.endpoints.iter().any(|to| to.local);
        filled.node_port_tcp |= port.node_port != 0 && port.protocol == Protocol::Tcp;
        filled.node_port_udp |= port.node_port != 0 && port.protocol == Protocol::Udp;
    }
    filled
}

/// The input of `iptables-restore --noflush`, the same at every sync.
pub(super) fn restore_input(node: &Node, family: Family, services: &[Service]) -> String {
    let filled = filled(family, services);
    let mut input = Lines::default();
    input.put(format_args!("*nat"));
    for chain in NAT_CHAINS {
        input.put(format_args!(":{chain} - [0:0]"));
    }
    nat(&mut input, node, family, filled);
    input.put(format_args!("COMMIT\n*filter"));
    for chain in FILTER_CHAINS {
        input.put(format_args!(":{chain} - [0:0]"));
    }
    filter(&mut input, family);
    input.put(format_args!("COMMIT"));
    input.into_string()
}

fn nat(input: &mut Lines, node: &Node, family: Family, filled: Filled) {
    let localhost = match family {
        Family::V4 => "127.0.0.0/8",
        Family::V6 => "::1/128",
    };
    let cluster_ips = CLUSTER_IP.name(family);
    input.put(format_args!("-A KUBE-SERVICES -s {localhost} -j RETURN"));
    if filled.loop_back {
        input.put(format_args!(
            "-A KUBE-POSTROUTING -m comment --comment \"{}\" -m set --match-set {} dst,dst,src -j MASQUERADE",
            LOOP_BACK.comment,
            LOOP_BACK.name(family)
        ));
    }
    for (set, protocol, is_filled) in
        [(NODE_PORT_TCP, "tcp", filled.node_port_tcp), (NODE_PORT_UDP, "udp", filled.node_port_udp)]
    {
        if is_filled {
            input.put(format_args!(
                "-A KUBE-NODE-PORT -p {protocol} -m comment --comment \"{}\" -m set --match-set {} dst \
                 -j KUBE-MARK-MASQ",
                set.comment,
                set.name(family)
            ));
        }
    }
    if let Some(pods) = node.pod_cidr(family).filter(|_| filled.cluster_ip) {
        input.put(format_args!(
            "-A KUBE-SERVICES -m comment --comment \"{}\" -m set --match-set {cluster_ips} dst,dst ! -s {pods} \
             -j KUBE-MARK-MASQ",
            CLUSTER_IP.comment
        ));
    }
    input.put(format_args!("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT"));
    input.put(format_args!("-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ"));
    if filled.cluster_ip {
        input.put(format_args!("-A KUBE-SERVICES -m set --match-set {cluster_ips} dst,dst -j ACCEPT"));
    }
    masquerade_by_mark(input);
}

/// A packet to a service's address that no virtual server took is refused, lest it reach the node's own processes.
fn filter(input: &mut Lines, family: Family) {
    input.put(format_args!("-A KUBE-SOURCE-RANGES-FIREWALL -j DROP"));
    forward_by_mark(input);
    let health_checks = HEALTH_CHECK_NODE_PORT.name(family);
    input.put(format_args!(
        "-A KUBE-NODE-PORT -m comment --comment \"{}\" -m set --match-set {health_checks} dst -j ACCEPT",
        HEALTH_CHECK_NODE_PORT.comment
    ));
    for set in [LOAD_BALANCER, CLUSTER_IP, EXTERNAL_IP, EXTERNAL_IP_LOCAL] {
        let set = set.name(family);
        input.put(format_args!("-A KUBE-IPVS-FILTER -m set --match-set {set} dst,dst -j RETURN"));
    }
    input.put(format_args!("-A KUBE-IPVS-FILTER -m set --match-set {health_checks} dst -j RETURN"));
    input.put(format_args!(
        "-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set {} dst -j REJECT",
        IPVS_IPS.name(family)
    ));
}
