//! The IP sets that kube-proxy's few iptables rules match on (`ipsetInfo` in pkg/proxy/ipvs/proxier.go, names and
//! comments in pkg/proxy/ipvs/ipset.go), and what one service has in them. Pure.

use std::collections::BTreeSet;

use crate::rivals::{
    service::{Family, Protocol, Service},
    text::Lines,
};

/// ipset's limit on a name.
const LONGEST_NAME: usize = 31;

/// How the entries of a set look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Address,
    AddressPort,
    AddressPortAddress,
    AddressPortNet,
    Port,
}

/// One set: its IPv4 name, and what iptables rules that match on it say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Set {
    name: &'static str,
    kind: Kind,
    pub(super) comment: &'static str,
}

const fn set(name: &'static str, kind: Kind, comment: &'static str) -> Set {
    Set { name, kind, comment }
}

pub(super) const LOOP_BACK: Set = set(
    "KUBE-LOOP-BACK",
    Kind::AddressPortAddress,
    "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
);
pub(super) const CLUSTER_IP: Set =
    set("KUBE-CLUSTER-IP", Kind::AddressPort, "Kubernetes service cluster ip + port for masquerade purpose");
pub(super) const EXTERNAL_IP: Set = set("KUBE-EXTERNAL-IP", Kind::AddressPort, "");
pub(super) const EXTERNAL_IP_LOCAL: Set = set("KUBE-EXTERNAL-IP-LOCAL", Kind::AddressPort, "");
pub(super) const LOAD_BALANCER: Set = set("KUBE-LOAD-BALANCER", Kind::AddressPort, "");
pub(super) const NODE_PORT_TCP: Set =
    set("KUBE-NODE-PORT-TCP", Kind::Port, "Kubernetes nodeport TCP port for masquerade purpose");
pub(super) const NODE_PORT_UDP: Set =
    set("KUBE-NODE-PORT-UDP", Kind::Port, "Kubernetes nodeport UDP port for masquerade purpose");
pub(super) const HEALTH_CHECK_NODE_PORT: Set =
    set("KUBE-HEALTH-CHECK-NODE-PORT", Kind::Port, "Kubernetes health check node port");
/// The addresses of kube-ipvs0.
pub(super) const IPVS_IPS: Set = set("KUBE-IPVS-IPS", Kind::Address, "");

/// All that kube-proxy makes, used or not.
const SETS: [Set; 17] = [
    LOOP_BACK,
    CLUSTER_IP,
    EXTERNAL_IP,
    EXTERNAL_IP_LOCAL,
    LOAD_BALANCER,
    set("KUBE-LOAD-BALANCER-FW", Kind::AddressPort, ""),
    set("KUBE-LOAD-BALANCER-LOCAL", Kind::AddressPort, ""),
    set("KUBE-LOAD-BALANCER-SOURCE-IP", Kind::AddressPortAddress, ""),
    set("KUBE-LOAD-BALANCER-SOURCE-CIDR", Kind::AddressPortNet, ""),
    NODE_PORT_TCP,
    set("KUBE-NODE-PORT-LOCAL-TCP", Kind::Port, ""),
    NODE_PORT_UDP,
    set("KUBE-NODE-PORT-LOCAL-UDP", Kind::Port, ""),
    set("KUBE-NODE-PORT-SCTP-HASH", Kind::AddressPort, ""),
    set("KUBE-NODE-PORT-LOCAL-SCTP-HASH", Kind::AddressPort, ""),
    HEALTH_CHECK_NODE_PORT,
    IPVS_IPS,
];

impl Set {
    /// IPv6 sets are called `KUBE-6-...`, cut to what ipset allows.
    pub(super) fn name(&self, family: Family) -> String {
        let mut name = match family {
            Family::V4 => self.name.to_owned(),
            Family::V6 => self.name.replacen("KUBE-", "KUBE-6-", 1),
        };
        name.truncate(LONGEST_NAME);
        name
    }

    fn definition(&self, family: Family) -> String {
        let family = match family {
            Family::V4 => "inet",
            Family::V6 => "inet6",
        };
        let hash = |kind| format!("hash:{kind} family {family} hashsize 1024 maxelem 65536");
        match self.kind {
            Kind::Address => hash("ip"),
            Kind::AddressPort => hash("ip,port"),
            Kind::AddressPortAddress => hash("ip,port,ip"),
            Kind::AddressPortNet => hash("ip,port,net"),
            Kind::Port => "bitmap:port range 0-65535".to_owned(),
        }
    }
}

/// A set's name in its family, and an entry as ipset writes it.
pub(super) type Entry = (String, String);

/// What one service has in the sets. Entries of local endpoints may be those of another service as well.
pub(super) fn entries(service: &Service) -> BTreeSet<Entry> {
    let (family, ip) = (service.family(), service.cluster_ip);
    let mut entries = BTreeSet::from([(IPVS_IPS.name(family), ip.to_string())]);
    for port in &service.ports {
        let protocol = port.protocol.name();
        entries.insert((CLUSTER_IP.name(family), format!("{ip},{protocol}:{}", port.port)));
        if port.node_port != 0 {
            let set = match port.protocol {
                Protocol::Tcp => NODE_PORT_TCP,
                Protocol::Udp => NODE_PORT_UDP,
            };
            entries.insert((set.name(family), port.node_port.to_string()));
        }
        for to in port.endpoints.iter().filter(|to| to.local) {
            let (pod, number) = (to.address.ip(), to.address.port());
            entries.insert((LOOP_BACK.name(family), format!("{pod},{protocol}:{number},{pod}")));
        }
    }
    entries
}

/// The input of `ipset restore` that makes the sets that are missing.
pub(super) fn creation(family: Family) -> String {
    let create = |set: Set| format!("create {} {} -exist\n", set.name(family), set.definition(family));
    SETS.into_iter().map(create).collect()
}

/// The input of `ipset restore` that turns one state into another.
pub(super) fn difference(before: &BTreeSet<Entry>, after: &BTreeSet<Entry>) -> String {
    let mut lines = Lines::default();
    for (set, entry) in before.difference(after) {
        lines.put(format_args!("del {set} {entry} -exist"));
    }
    for (set, entry) in after.difference(before) {
        lines.put(format_args!("add {set} {entry} -exist"));
    }
    lines.into_string()
}

/// The names of all sets of a family.
pub(super) fn names(family: Family) -> impl Iterator<Item = String> {
    SETS.into_iter().map(move |set| set.name(family))
}
