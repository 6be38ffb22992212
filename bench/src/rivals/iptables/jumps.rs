//! How packets get from the built-in chains into kube-proxy's (`iptablesJumpChains` and `iptablesKubeletJumpChains` in
//! pkg/proxy/iptables/proxier.go). Each is prepended in this order, so the last of a built-in chain is met first.

/// A jump that is there before any service: `table`, from a built-in chain to one of kube-proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    pub table: &'static str,
    pub from: &'static str,
    pub to: &'static str,
    /// Empty: none.
    pub comment: &'static str,
    /// Only the first packet of a connection takes it.
    pub new_only: bool,
}

const fn jump(table: &'static str, to: &'static str, from: &'static str, comment: &'static str, new: bool) -> Jump {
    Jump { table, from, to, comment, new_only: new }
}

const OUTSIDE: &str = "kubernetes externally-visible service portals";
const PORTALS: &str = "kubernetes service portals";
const FIREWALL: &str = "kubernetes load balancer firewall";

/// Those of the iptables mode.
pub const JUMPS: [Jump; 14] = [
    jump("filter", "KUBE-EXTERNAL-SERVICES", "INPUT", OUTSIDE, true),
    jump("filter", "KUBE-EXTERNAL-SERVICES", "FORWARD", OUTSIDE, true),
    jump("filter", "KUBE-NODEPORTS", "INPUT", "kubernetes health check service ports", false),
    jump("filter", "KUBE-SERVICES", "FORWARD", PORTALS, true),
    jump("filter", "KUBE-SERVICES", "OUTPUT", PORTALS, true),
    jump("filter", "KUBE-FORWARD", "FORWARD", "kubernetes forwarding rules", false),
    jump("filter", "KUBE-PROXY-FIREWALL", "INPUT", FIREWALL, true),
    jump("filter", "KUBE-PROXY-FIREWALL", "OUTPUT", FIREWALL, true),
    jump("filter", "KUBE-PROXY-FIREWALL", "FORWARD", FIREWALL, true),
    jump("nat", "KUBE-SERVICES", "OUTPUT", PORTALS, false),
    jump("nat", "KUBE-SERVICES", "PREROUTING", PORTALS, false),
    jump("nat", "KUBE-POSTROUTING", "POSTROUTING", "kubernetes postrouting rules", false),
    // The kubelet's chain against martians, which kube-proxy installs as well.
    jump("filter", "KUBE-FIREWALL", "INPUT", "", false),
    jump("filter", "KUBE-FIREWALL", "OUTPUT", "", false),
];

impl Jump {
    /// What the rule matches and does, as arguments behind `-I CHAIN` or `-C CHAIN`.
    #[must_use]
    pub fn arguments(&self) -> Vec<&'static str> {
        let mut arguments = Vec::new();
        if self.new_only {
            arguments.extend(["-m", "conntrack", "--ctstate", "NEW"]);
        }
        if !self.comment.is_empty() {
            arguments.extend(["-m", "comment", "--comment", self.comment]);
        }
        arguments.extend(["-j", self.to]);
        arguments
    }
}
