//! The input of `iptables-restore --noflush` for one sync, as `syncProxyRules` in pkg/proxy/iptables/proxier.go writes
//! it (kube-proxy 1.34). Pure.
//!
//! Each sync writes KUBE-SERVICES, KUBE-NODEPORTS and the filter table whole, one line per service; the chains of a
//! service only if it changed (a "partial sync"). So one change among N services costs in proportion to N.
//!
//! Left out: the `nfacct` counters (one match on the INVALID rule, one rule more per node port), which need a kernel
//! module that few nodes load. Leaving them out favours this rival.

use crate::rivals::{
    service::{Family, Node, Service, ServiceKey, ServicePort},
    text::Lines,
};

use super::names::{cluster_chain, endpoint_chain, external_chain};

/// `--iptables-masquerade-bit 14`, the default.
pub const MASQUERADE_MARK: &str = "0x4000/0x4000";
const MARK: &str = "0x4000";
/// Above this many endpoints the comments of per-endpoint rules are dropped (`largeClusterEndpointsThreshold`).
const LARGE_CLUSTER_ENDPOINTS: usize = 1000;

/// Whose chains a sync writes.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// A full sync.
    Everything,
    /// A partial sync: those that changed since the last.
    Only(&'a [ServiceKey]),
}

/// In a large cluster kube-proxy drops comments and looks for stale chains only every sync period.
#[must_use]
pub fn is_large(services: &[Service]) -> bool {
    let endpoints = |service: &Service| service.ports.iter().map(|port| port.endpoints.len()).sum::<usize>();
    services.iter().map(endpoints).sum::<usize>() > LARGE_CLUSTER_ENDPOINTS
}

/// The whole input for one family. `stale` are chains of the nat table that no service uses any more.
#[must_use]
pub fn restore_input(node: &Node, family: Family, services: &[Service], scope: Scope<'_>, stale: &[String]) -> String {
    let mut sync = Sync::new(node, family, is_large(services));
    sync.foundation();
    for service in services.iter().filter(|service| service.family() == family) {
        let write_chains = match scope {
            Scope::Everything => true,
            Scope::Only(changed) => changed.iter().any(|key| service.is(key)),
        };
        for port in &service.ports {
            sync.frontends(service, port);
            if write_chains {
                sync.chains(service, port);
            }
        }
    }
    for chain in stale {
        // Declaring a chain empties it, so that it can go in the same transaction.
        sync.nat_chains.put(format_args!(":{chain} - [0:0]"));
        sync.nat_rules.put(format_args!("-X {chain}"));
    }
    sync.tail();
    sync.into_input()
}

/// Chains of the nat table that belong to services.
pub(super) fn chains_of(service: &Service) -> Vec<String> {
    let mut chains = Vec::new();
    for port in service.ports.iter().filter(|port| !port.endpoints.is_empty()) {
        let name = service.port_name(port);
        chains.push(cluster_chain(&name, port.protocol));
        if port.node_port != 0 {
            chains.push(external_chain(&name, port.protocol));
        }
        chains.extend(port.endpoints.iter().map(|to| endpoint_chain(&name, port.protocol, to.address)));
    }
    chains
}

struct Sync<'a> {
    node: &'a Node,
    family: Family,
    large: bool,
    filter_chains: Lines,
    filter_rules: Lines,
    nat_chains: Lines,
    nat_rules: Lines,
}

impl<'a> Sync<'a> {
    fn new(node: &'a Node, family: Family, large: bool) -> Self {
        Self {
            node,
            family,
            large,
            filter_chains: Lines::default(),
            filter_rules: Lines::default(),
            nat_chains: Lines::default(),
            nat_rules: Lines::default(),
        }
    }

    /// What is there without any service: the chains' declarations, masquerade by mark, the anti-martian rule.
    fn foundation(&mut self) {
        for chain in
            ["KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL"]
        {
            self.filter_chains.put(format_args!(":{chain} - [0:0]"));
        }
        for chain in ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"] {
            self.nat_chains.put(format_args!(":{chain} - [0:0]"));
        }
        masquerade_by_mark(&mut self.nat_rules);
        if self.family == Family::V4 {
            // Node ports on 127.0.0.1 need route_localnet, and this rule against its abuse.
            self.filter_chains.put(format_args!(":KUBE-FIREWALL - [0:0]"));
            self.filter_rules.put(format_args!(
                "-A KUBE-FIREWALL -m comment --comment \"block incoming localnet connections\" -d 127.0.0.0/8 \
                 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
            ));
        }
    }

    /// The lines that every sync writes for every service: from its addresses to its chains, or to a refusal.
    fn frontends(&mut self, service: &Service, port: &ServicePort) {
        let (name, protocol, ip) = (service.port_name(port), port.protocol.name(), service.cluster_ip);
        let (number, node_port) = (port.port, port.node_port);
        if port.endpoints.is_empty() {
            self.filter_rules.put(format_args!(
                "-A KUBE-SERVICES -m comment --comment \"{name} has no endpoints\" -m {protocol} -p {protocol} \
                 -d {ip} --dport {number} -j REJECT"
            ));
            if node_port != 0 {
                self.filter_rules.put(format_args!(
                    "-A KUBE-EXTERNAL-SERVICES -m comment --comment \"{name} has no endpoints\" -m addrtype \
                     --dst-type LOCAL -m {protocol} -p {protocol} --dport {node_port} -j REJECT"
                ));
            }
            return;
        }
        let chain = cluster_chain(&name, port.protocol);
        self.nat_rules.put(format_args!(
            "-A KUBE-SERVICES -m comment --comment \"{name} cluster IP\" -m {protocol} -p {protocol} -d {ip} \
             --dport {number} -j {chain}"
        ));
        if node_port != 0 {
            let chain = external_chain(&name, port.protocol);
            self.nat_rules.put(format_args!(
                "-A KUBE-NODEPORTS -m comment --comment {name} -m {protocol} -p {protocol} --dport {node_port} \
                 -j {chain}"
            ));
        }
    }

    /// The service's own chains: masquerade or not, pick one endpoint by chance, translate.
    fn chains(&mut self, service: &Service, port: &ServicePort) {
        if port.endpoints.is_empty() {
            return;
        }
        let (name, protocol) = (service.port_name(port), port.protocol.name());
        let chain = cluster_chain(&name, port.protocol);
        if let Some(pods) = self.node.pod_cidr(self.family) {
            self.nat_rules.put(format_args!(
                "-A {chain} -m comment --comment \"{name} cluster IP\" -m {protocol} -p {protocol} -d {} --dport {} \
                 ! -s {pods} -j KUBE-MARK-MASQ",
                service.cluster_ip, port.port
            ));
        }
        if port.node_port != 0 {
            let external = external_chain(&name, port.protocol);
            self.nat_chains.put(format_args!(":{external} - [0:0]"));
            self.nat_rules.put(format_args!(
                "-A {external} -m comment --comment \"masquerade traffic for {name} external destinations\" \
                 -j KUBE-MARK-MASQ"
            ));
            self.nat_rules.put(format_args!("-A {external} -j {chain}"));
        }
        self.nat_chains.put(format_args!(":{chain} - [0:0]"));
        let count = port.endpoints.len();
        let endpoints: Vec<_> =
            port.endpoints.iter().map(|to| (to.address, endpoint_chain(&name, port.protocol, to.address))).collect();
        for (index, (address, target)) in endpoints.iter().enumerate() {
            let comment = self.comment(format_args!("\"{name} -> {address}\""));
            let left = count - index;
            if left > 1 {
                let probability = 1.0 / left as f64;
                self.nat_rules.put(format_args!(
                    "-A {chain}{comment} -m statistic --mode random --probability {probability:.10} -j {target}"
                ));
            } else {
                self.nat_rules.put(format_args!("-A {chain}{comment} -j {target}"));
            }
        }
        let comment = self.comment(format_args!("{name}"));
        for (address, target) in &endpoints {
            self.nat_chains.put(format_args!(":{target} - [0:0]"));
            // A pod that reaches itself must see another source, or it would answer to itself.
            self.nat_rules.put(format_args!("-A {target}{comment} -s {} -j KUBE-MARK-MASQ", address.ip()));
            self.nat_rules.put(format_args!(
                "-A {target}{comment} -m {protocol} -p {protocol} -j DNAT --to-destination {address}"
            ));
        }
    }

    fn comment(&self, text: std::fmt::Arguments<'_>) -> String {
        if self.large { String::new() } else { format!(" -m comment --comment {text}") }
    }

    /// What must come after all services.
    fn tail(&mut self) {
        let not_localhost = if self.family == Family::V6 { " ! -d ::1/128" } else { "" };
        self.nat_rules.put(format_args!(
            "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule \
             in this chain\" -m addrtype --dst-type LOCAL{not_localhost} -j KUBE-NODEPORTS"
        ));
        self.filter_rules.put(format_args!("-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"));
        forward_by_mark(&mut self.filter_rules);
    }

    fn into_input(self) -> String {
        let mut input = Lines::default();
        input.put(format_args!("*filter"));
        input.append(&self.filter_chains);
        input.append(&self.filter_rules);
        input.put(format_args!("COMMIT\n*nat"));
        input.append(&self.nat_chains);
        input.append(&self.nat_rules);
        input.put(format_args!("COMMIT"));
        input.into_string()
    }
}

/// KUBE-POSTROUTING and KUBE-MARK-MASQ, the same in the iptables and the IPVS mode.
pub(in crate::rivals) fn masquerade_by_mark(nat_rules: &mut Lines) {
    nat_rules.put(format_args!("-A KUBE-POSTROUTING -m mark ! --mark {MASQUERADE_MARK} -j RETURN"));
    // Cleared first, lest a packet that passes twice is masqueraded twice.
    nat_rules.put(format_args!("-A KUBE-POSTROUTING -j MARK --xor-mark {MARK}"));
    nat_rules.put(format_args!(
        "-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE \
         --random-fully"
    ));
    nat_rules.put(format_args!("-A KUBE-MARK-MASQ -j MARK --or-mark {MARK}"));
}

/// The accepting end of KUBE-FORWARD, the same in the iptables and the IPVS mode.
pub(in crate::rivals) fn forward_by_mark(filter_rules: &mut Lines) {
    filter_rules.put(format_args!(
        "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark {MASQUERADE_MARK} \
         -j ACCEPT"
    ));
    filter_rules.put(format_args!(
        "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack \
         --ctstate RELATED,ESTABLISHED -j ACCEPT"
    ));
}
