//! Reads the output of `iptables-save`: which chains are there, and what removes all of kube-proxy's. Pure.

use std::collections::HashSet;

use super::names::is_service_chain;

/// Chains of services that `saved` (one table) has and nobody wants.
pub(super) fn stale_chains(saved: &str, wanted: &HashSet<String>) -> Vec<String> {
    declared(saved).filter(|chain| is_service_chain(chain) && !wanted.contains(*chain)).map(str::to_owned).collect()
}

/// The input for `iptables-restore --noflush` that takes kube-proxy's chains and the jumps to them out of one table,
/// and nothing else; empty if there are none (`CleanupLeftovers`).
#[must_use]
pub fn removal(table: &str, saved: &str) -> String {
    let ours: Vec<_> = declared(saved).filter(|chain| chain.starts_with("KUBE-")).collect();
    if ours.is_empty() {
        return String::new();
    }
    // Declaring a chain empties it, so no rule within refers to another when they are deleted.
    let flushes = ours.iter().map(|chain| format!(":{chain} - [0:0]\n"));
    let unlinks = saved.lines().filter_map(jump_from_outside).map(|rule| format!("-D {rule}\n"));
    let deletes = ours.iter().map(|chain| format!("-X {chain}\n"));
    format!("*{table}\n{}COMMIT\n", flushes.chain(unlinks).chain(deletes).collect::<String>())
}

fn declared(saved: &str) -> impl Iterator<Item = &str> {
    saved.lines().filter_map(|line| line.strip_prefix(':')).filter_map(|line| line.split(' ').next())
}

/// `CHAIN MATCHES -j KUBE-...` of a rule in a chain that is not kube-proxy's.
fn jump_from_outside(line: &str) -> Option<&str> {
    let rule = line.strip_prefix("-A ")?;
    let (_, target) = rule.rsplit_once(" -j ")?;
    (!rule.starts_with("KUBE-") && target.starts_with("KUBE-")).then_some(rule)
}

#[cfg(test)]
mod tests {
    use super::{HashSet, removal, stale_chains};

    const SAVED: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-AAAA - [0:0]
:KUBE-SVC-BBBB - [0:0]
:MINE - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A PREROUTING -j MINE
-A KUBE-SERVICES -d 10.0.0.1/32 -j KUBE-SVC-AAAA
COMMIT
";

    #[test]
    fn a_chain_that_no_service_wants_is_stale_and_no_other() {
        let wanted = HashSet::from(["KUBE-SVC-AAAA".to_owned()]);
        assert_eq!(stale_chains(SAVED, &wanted), ["KUBE-SVC-BBBB"]);
    }

    #[test]
    fn removal_takes_what_is_kube_proxys_and_leaves_other_rules_alone() {
        let expected = "\
*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-AAAA - [0:0]
:KUBE-SVC-BBBB - [0:0]
-D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-X KUBE-SERVICES
-X KUBE-SVC-AAAA
-X KUBE-SVC-BBBB
COMMIT
";
        assert_eq!(removal("nat", SAVED), expected);
        assert_eq!(removal("nat", "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"), "");
    }
}
