//! What keeps translated connections alive while the rules that translated them go.
//!
//! A connection is translated by its conntrack entry, not by the rule that made it: but only while the namespace has
//! hooks of nat and of conntrack. The kernel registers either with its first user and takes them away with the last,
//! so both need a user of ours: a nat chain for the one, a rule that asks for a connection's state for the other. The
//! rule has no verdict; nothing happens to any packet.

use super::{Kind, Step};
use crate::lb::Family;

const CHAIN: &str = "MILLRACE-ANCHOR";

/// A table of our own, `ip millrace` or `ip6 millrace`; made again where it is already.
pub(super) fn in_nftables(family: Family) -> Step {
    let ip = super::nftables::ip(family);
    let bases = [("prerouting", -100), ("input", 100), ("output", -100), ("postrouting", 100)];
    let chains = bases.map(|(hook, priority)| {
        format!("add chain {ip} millrace {hook} {{ type nat hook {hook} priority {priority} ; }}\n")
    });
    let input = format!(
        "add table {ip} millrace\n{}flush table {ip} millrace\n\
         add rule {ip} millrace prerouting ct state established,related\n",
        chains.concat()
    );
    Step {
        kind: Kind::Add,
        objects: vec![format!(
            "nftables: table {ip} millrace, so that connections translated so far go on \
             (once they have ended: nft delete table {ip} millrace)"
        )],
        family: Some(family),
        program: "nft".into(),
        arguments: vec!["-f".into(), "-".into()],
        input,
    }
}

/// The same as a chain of our own and a jump to it, where there is no nft.
pub(super) fn in_iptables(tool: &str, family: Family, saved: &str) -> Step {
    let jump = format!("PREROUTING -j {CHAIN}");
    // Declaring the chain empties it; the jump would be there twice.
    let missing = !saved.lines().any(|line| line.strip_prefix("-A ").is_some_and(|rule| rule == jump));
    let jump = if missing { format!("-A {jump}\n") } else { String::new() };
    let input =
        format!("*nat\n:{CHAIN} - [0:0]\n-A {CHAIN} -m conntrack --ctstate RELATED,ESTABLISHED\n{jump}COMMIT\n");
    Step {
        kind: Kind::Add,
        objects: vec![format!("{tool} nat: chain {CHAIN}, so that connections translated so far go on")],
        family: Some(family),
        program: format!("{tool}-restore"),
        arguments: super::iptables::restore_arguments(),
        input,
    }
}

#[cfg(test)]
mod tests {
    use super::{Family, in_iptables};

    #[test]
    fn the_jump_to_our_chain_is_made_once() {
        let first = in_iptables("iptables-legacy", Family::V4, "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n").input;
        assert!(first.contains("\n-A PREROUTING -j MILLRACE-ANCHOR\n"), "{first}");
        let saved = "*nat\n:MILLRACE-ANCHOR - [0:0]\n-A PREROUTING -j MILLRACE-ANCHOR\nCOMMIT\n";
        let second = in_iptables("iptables-legacy", Family::V4, saved).input;
        assert!(!second.contains("PREROUTING"), "{second}");
    }
}
