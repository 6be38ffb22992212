//! What `cleanup --kube-proxy` takes out of a dump of iptables rules, and what it leaves: no tool is run.

use millrace_agent::{
    lb::Family,
    migrate::{Plan, iptables::plan},
};
use proptest::{collection::vec, prelude::*, sample::select};

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

/// Chains of kube-proxy, of the kubelet, of a network policy and of users, some with names that are nearly the first's.
const NAMES: [&str; 10] = [
    "KUBE-SERVICES",
    "KUBE-SVC-AAAA",
    "KUBE-SEP-BBBB",
    "KUBE-FORWARD",
    "KUBE-FIREWALL",
    "KUBE-ROUTER-INPUT",
    "kube-services",
    "USER",
    "INPUT",
    "FORWARD",
];
const OF_KUBE_PROXY: [&str; 4] = ["KUBE-SERVICES", "KUBE-SVC-AAAA", "KUBE-SEP-BBBB", "KUBE-FORWARD"];

fn rule() -> impl Strategy<Value = String> {
    let comment = select(vec!["\"kubernetes portals\"", "kube", "\"mine: -j KUBE-SERVICES\"", "\"a \\\" -j USER\""]);
    let part = prop_oneof![
        Just("-m conntrack --ctstate NEW".to_owned()),
        Just("-d 10.96.0.1/32 -p tcp".to_owned()),
        comment.prop_map(|text| format!("-m comment --comment {text}")),
    ];
    (select(&NAMES[..]), vec(part, 0..3), select(vec!["-j", "-g"]), select(&NAMES[..])).prop_map(
        |(chain, parts, verb, target)| format!("{chain} {} {verb} {target}", parts.join(" ")).replace("  ", " "),
    )
}

/// As `iptables-save` prints a table with these rules and all chains.
fn saved(table: &str, policy: &str, rules: &[String]) -> String {
    let declared = NAMES.iter().map(|name| match *name {
        "INPUT" => ":INPUT ACCEPT [0:0]\n".to_owned(),
        "FORWARD" => format!(":FORWARD {policy} [0:0]\n"),
        other => format!(":{other} - [0:0]\n"),
    });
    let rules = rules.iter().map(|rule| format!("-A {rule}\n"));
    format!("*{table}\n{}COMMIT\n", declared.chain(rules).collect::<String>())
}

proptest! {
    /// Whatever rules there are: only chains of kube-proxy go, only jumps into them are unlinked, none that still is jumped
    /// to by a rule that stays, and a second look finds nothing more to do.
    #[test]
    fn among_any_rules_only_kube_proxys_go_and_none_that_is_in_use(
        table in select(vec!["filter", "nat"]),
        policy in select(vec!["ACCEPT", "DROP"]),
        rules in vec(rule(), 0..12),
    ) {
        let input = input(&plan("iptables-nft", Family::V4, &saved(table, policy, &rules)));
        let named = |verb: &str| input.lines().filter_map(|l| l.strip_prefix(verb)).map(str::to_owned).collect::<Vec<_>>();
        let (gone, unlinked) = (named("-X "), named("-D "));
        for chain in &gone {
            prop_assert!(OF_KUBE_PROXY.contains(&chain.as_str()), "{} in {}", chain, input);
        }
        let chain = |rule: &str| rule.split(' ').next().unwrap_or_default().to_owned();
        let target = |rule: &str| rule.rsplit(' ').next().unwrap_or_default().to_owned();
        for rule in &unlinked {
            prop_assert!(rules.contains(rule), "{}", rule);
            prop_assert!(OF_KUBE_PROXY.contains(&target(rule).as_str()) && rule.contains("-m comment --comment"), "{}", rule);
        }
        // What is deleted more often than it is there would have the whole table refused.
        for rule in &rules {
            let times = |all: &[String]| all.iter().filter(|other| *other == rule).count();
            prop_assert!(times(&unlinked) <= times(&rules), "{} in {}", rule, input);
        }
        let stay: Vec<_> = rules.iter().filter(|rule| !gone.contains(&chain(rule)) && !unlinked.contains(rule)).collect();
        for rule in &stay {
            prop_assert!(!gone.contains(&target(rule)), "{} is in use by {}\n{}", target(rule), rule, input);
        }
        let left: String = saved(table, policy, &stay.into_iter().cloned().collect::<Vec<_>>())
            .lines()
            .filter(|line| !gone.iter().any(|chain| line.starts_with(&format!(":{chain} "))))
            .map(|line| format!("{line}\n"))
            .collect();
        prop_assert_eq!(plan("iptables-nft", Family::V4, &left).steps, []);
    }

    /// What no `iptables-save` prints is read without falling over, and names nothing that is not there.
    #[test]
    fn any_text_is_read(text in "([*:]|-A |-j |KUBE-SVC-|\"|\\\\| |\n|\\PC){0,60}") {
        for line in input(&plan("iptables-nft", Family::V6, &text)).lines() {
            let rest = line.trim_start_matches([':', '*']).trim_start_matches("-X ").trim_start_matches("-D ");
            let named = rest.trim_end_matches(" - [0:0]");
            prop_assert!(line == "COMMIT" || text.contains(named), "{:?}", line);
        }
    }
}
