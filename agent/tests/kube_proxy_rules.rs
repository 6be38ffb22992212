//! What `cleanup --kube-proxy` takes out of a dump of iptables rules, and what it leaves: no tool is run.

use millrace_agent::{
    lb::Family,
    migrate::{Plan, iptables::plan},
};

const SAVED: &str = include_str!("golden/kube_proxy_rules.txt");

fn input(plan: &Plan) -> String {
    plan.steps.iter().map(|step| step.input.as_str()).collect()
}

#[test]
fn kube_proxys_chains_and_its_jumps_to_them_go_and_all_else_stays() {
    let plan = plan("iptables-legacy", Family::V4, SAVED);
    assert_eq!(input(&plan), include_str!("golden/kube_proxy_removal.txt"));
    assert_eq!(plan.notes, [""; 0]);
    let programs: Vec<_> = plan.steps.iter().map(|step| step.program.as_str()).collect();
    assert_eq!(programs, ["iptables-legacy-restore"; 3]);
}

#[test]
fn each_removal_is_shown() {
    let plan = plan("iptables-nft", Family::V4, SAVED);
    let lines: Vec<_> = plan.steps.iter().flat_map(|step| step.lines(false)).collect();
    assert_eq!(lines.len(), 12, "eight chains, four jumps: {lines:#?}");
    assert_eq!(lines[0], "would remove iptables-nft mangle: chain KUBE-PROXY-CANARY");
    assert!(lines.iter().any(|line| line.starts_with("would remove iptables-nft nat: rule PREROUTING -m comment")));
}

#[test]
fn a_chain_that_anothers_rule_uses_stays_with_all_that_it_leads_to() {
    let rule = "-A USER -d 10.96.0.10/32 -g KUBE-SVC-6IC3CFVGYJ4ASQ7I\n-A USER -s 10.0.0.1/32 -j KUBE-MARK-MASQ\n";
    let (before, nat) = SAVED.split_at(SAVED.find("*nat").unwrap_or_default());
    let plan =
        plan("iptables-legacy", Family::V4, &format!("{before}{}", nat.replace("COMMIT", &format!("{rule}COMMIT"))));
    let input = input(&plan);
    for stays in ["KUBE-SVC-6IC3CFVGYJ4ASQ7I", "KUBE-SEP-LV4KAU5HMVGRZCUE", "KUBE-MARK-MASQ"] {
        assert!(!input.contains(stays), "{stays}: {input}");
    }
    assert!(input.contains("-X KUBE-SERVICES\n"), "{input}");
    assert_eq!(plan.notes.len(), 2, "{:?}", plan.notes);
    assert!(plan.notes[0].contains("KUBE-SVC-6IC3CFVGYJ4ASQ7I stays"), "{:?}", plan.notes);
}

#[test]
fn a_users_own_jump_to_a_chain_of_kube_proxy_is_not_kube_proxys() {
    for own in ["-A OUTPUT -d 10.96.0.0/16 -j KUBE-SERVICES\n", "-A OUTPUT -j KUBE-SERVICES\n"] {
        let plan = plan("iptables-legacy", Family::V4, &SAVED.replace("-A KUBE-MARK", &format!("{own}-A KUBE-MARK")));
        let input = input(&plan);
        assert!(!input.contains("-D OUTPUT") && !input.contains("-X KUBE-SERVICES"), "{input}");
    }
}

/// Where the firewall drops what it forwards, KUBE-FORWARD is what lets the packets of translated connections pass.
#[test]
fn kube_forward_stays_where_the_policy_of_forward_is_drop() {
    let plan = plan("iptables-legacy", Family::V4, &SAVED.replace(":FORWARD ACCEPT", ":FORWARD DROP"));
    let input = input(&plan);
    assert!(!input.contains("KUBE-FORWARD"), "{input}");
    assert!(input.contains("-X KUBE-EXTERNAL-SERVICES\n"), "{input}");
    assert!(plan.notes[0].contains("KUBE-FORWARD stays"), "{:?}", plan.notes);
}

#[test]
fn without_kube_proxy_there_is_nothing_to_do() {
    assert_eq!(plan("iptables-legacy", Family::V6, ""), Plan::default());
    let clean = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\n-A PREROUTING -j ACCEPT\nCOMMIT\n";
    assert_eq!(plan("iptables-legacy", Family::V4, clean), Plan::default());
}
