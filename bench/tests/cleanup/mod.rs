//! `millrace-agent cleanup --kube-proxy` on a node with kube-proxy's real layout and others' rules: all of the one goes,
//! none of the other, and no connection that was translated notices.

mod moving;

use std::{os::unix::fs::symlink, path::Path, thread, time::Duration};

use millrace_bench::rivals::{Backend, Iptables, Nftables, Rival};
use millrace_tests::{
    agent::{Agent, run_to_end, run_with_tools},
    client::{Load, connect},
    manifests::Manifests,
    place::Place,
    probe::{self, Manner},
};

use self::moving::{assert_went_on, shell, talking, translated, web};
use crate::rivals::{
    checks::at,
    stage::{Stage, WEB, services},
};

/// How long an exchange may take, in milliseconds: machines are loaded, and a hung connection is never answered.
const PATIENCE: u64 = 3000;

const STEADY: Manner = Manner { every: 5, timeout: PATIENCE, ..Manner::of(probe::Protocol::Tcp) };

/// Rules of others, of every kind that looks a little like kube-proxy's. None of them holds the kernel's hooks of nat or
/// of conntrack; else the cleanup would not have to.
const FOREIGN: &str = "\
*mangle
:KUBE-KUBELET-CANARY - [0:0]
:USER - [0:0]
-A FORWARD -m comment --comment \"not -j KUBE-SERVICES\" -j USER
-A USER -s 198.18.0.0/15 -j MARK --set-mark 7
COMMIT
*filter
:KUBE-ROUTER-INPUT - [0:0]
:USER - [0:0]
-A INPUT -m comment --comment \"kube-router netpol - 4IA2OSFRMVNDXBVV\" -j KUBE-ROUTER-INPUT
-A KUBE-ROUTER-INPUT -p udp --dport 7 -j DROP
-A USER -p tcp --dport 9 -j ACCEPT
COMMIT
";
const FOREIGN_NFTABLES: &str = "table inet kube-proxy { chain mine { tcp dport 9 accept ; } ; }\n";

#[test]
fn iptables_over_x_tables_is_removed_and_nothing_else() {
    let stage = Stage::new();
    let rival = Iptables::new(stage.namespace(), Backend::Legacy, stage.node());
    is_removed_under_connections(&stage, rival, "legacy", &Tools::all());
}

#[test]
fn iptables_is_removed_as_gently_where_there_is_no_nft() {
    let stage = Stage::new();
    let tools = Tools::only(&["iptables-legacy", "ip6tables-legacy"]);
    let rival = Iptables::new(stage.namespace(), Backend::Legacy, stage.node());
    let said = is_removed_under_connections(&stage, rival, "legacy", &tools);
    for missing in ["nft", "iptables-nft-save", "ipset"] {
        assert!(said.contains(&format!("{missing} is not installed")), "{missing}: {said}");
    }
}

#[test]
fn a_node_moves_from_iptables_to_millrace_under_load() {
    let stage = Stage::new();
    moves_under_load(&stage, Iptables::new(stage.namespace(), Backend::Legacy, stage.node()));
}

#[test]
fn a_node_moves_from_nftables_to_millrace_under_load() {
    let stage = Stage::new();
    moves_under_load(&stage, Nftables::new(stage.namespace(), stage.node()));
}

/// The whole way: the agent starts beside kube-proxy's rules, then these go. Connections that were opened before, and
/// those that are opened all the while, notice nothing.
fn moves_under_load(stage: &Stage, mut rival: impl Rival) {
    rival.program(services()).unwrap();
    let ways = translated(stage);
    let streams: Vec<_> = ways.iter().map(|(from, to)| talking(from, *to, &STEADY)).collect();
    let manner = Manner { every: 2, timeout: PATIENCE, ..Manner::of(probe::Protocol::Tcp) };
    let loads: Vec<_> = ways.iter().map(|(from, to)| Load::start(from, &[*to], 1, &manner).unwrap()).collect();

    let manifests = Manifests::create().unwrap();
    manifests.apply("web.yaml", &web().objects()).unwrap();
    let _agent = Agent::start(stage.network.node("n1").unwrap(), &manifests, &[]).unwrap();
    let said = Tools::all().cleanup(&stage.on_node(), &[]);
    assert!(said.contains("\nremoved "), "{said}");
    thread::sleep(Duration::from_millis(PATIENCE + 500));

    for (load, (_, to)) in loads.into_iter().zip(&ways) {
        let report = load.stop().unwrap();
        assert_eq!(report.failed, 0, "{to}: {:?}", report.failures);
        assert!(report.total() > 100, "{to}: {report:?}");
    }
    for (stream, (_, to)) in streams.into_iter().zip(&ways) {
        assert_went_on(stream, *to);
    }
}

/// The device is of another kind than kube-proxy's dummy, which not every kernel has; virtual servers need IPVS.
#[test]
fn the_sets_and_the_device_of_the_ipvs_mode_are_removed_and_no_others() {
    let stage = Stage::new();
    let node = stage.on_node();
    let make = "ipset create mine hash:ip; ipset create KUBE-CLUSTER-IP hash:ip,port; \
                ipset create KUBE-6-LOOP-BACK hash:ip,port,ip family inet6; \
                ip link add kube-ipvs0 type bridge; ip address add 10.96.0.10/32 dev kube-ipvs0";
    shell(&node, make);
    let tools = Tools::all();
    let said = tools.cleanup(&node, &["--dry-run"]);
    assert!(said.contains("would remove IPVS: set KUBE-6-LOOP-BACK\n"), "{said}");
    assert!(!said.contains("would add"), "there is no rule that translated anything: {said}");
    let done = tools.cleanup(&node, &[]);
    assert!(done.contains("removed IPVS: device kube-ipvs0\n"), "{done}");
    assert_eq!(shell(&node, "ipset list -n; ip -o link show type bridge"), "mine\n");
}

#[test]
fn iptables_over_nf_tables_is_removed_and_nothing_else() {
    let stage = Stage::new();
    let rival = Iptables::new(stage.namespace(), Backend::Nft, stage.node());
    is_removed_under_connections(&stage, rival, "nft", &Tools::all());
}

#[test]
fn nftables_is_removed_and_nothing_else() {
    let stage = Stage::new();
    let rival = Nftables::new(stage.namespace(), stage.node());
    is_removed_under_connections(&stage, rival, "nft", &Tools::all());
}

/// `backend`: the one that others use. Returns what the removal said.
fn is_removed_under_connections(stage: &Stage, mut rival: impl Rival, backend: &str, tools: &Tools) -> String {
    let node = stage.on_node();
    for family in ["iptables", "ip6tables"] {
        let foreign =
            if family == "iptables" { FOREIGN.into() } else { FOREIGN.replace("198.18.0.0/15", "2001:2::/48") };
        shell(&node, &format!("{family}-{backend}-restore --noflush <<'END'\n{foreign}END"));
    }
    shell(&node, &format!("nft -f - <<'END'\n{FOREIGN_NFTABLES}END"));
    let before = rules(&node);
    rival.program(services()).unwrap();
    let full = rules(&node);
    assert_ne!(full, before);

    let mut streams: Vec<_> = translated(stage).into_iter().map(|(from, to)| talking(&from, to, &STEADY)).collect();
    let said = tools.cleanup(&node, &["--dry-run"]);
    assert!(said.contains("would remove ") && said.contains("would add "), "{said}");
    assert!(said.lines().all(|line| !line.starts_with("removed ") && !line.starts_with("added ")), "{said}");
    assert_eq!(rules(&node), full, "--dry-run changed something");

    let done = tools.cleanup(&node, &[]);
    let promised: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("would remove ")).collect();
    let removed: Vec<_> = done.lines().filter_map(|line| line.strip_prefix("removed ")).collect();
    assert_eq!(removed, promised);
    assert_eq!(only_others(&rules(&node)), only_others(&before), "others' rules are not what they were");
    let again = tools.cleanup(&node, &[]);
    assert!(again.contains("nothing of kube-proxy to remove"), "{again}");

    // Longer than an exchange may take: one that hangs would be over.
    thread::sleep(Duration::from_millis(PATIENCE + 500));
    for (stream, (_, to)) in streams.drain(..).zip(translated(stage)) {
        assert_went_on(stream, to);
    }
    // And it was the rules that were removed: a new connection finds no service.
    let new = connect(&stage.pod("client"), &[at(WEB, false, 80)], 1, &Manner::of(probe::Protocol::Tcp)).unwrap();
    assert_eq!(new[0].outcome.server(), None, "{new:?}");
    done
}

/// The programs that the agent finds on its node.
struct Tools(Option<tempfile::TempDir>);

impl Tools {
    fn all() -> Self {
        Self(None)
    }

    /// Those of some back ends of iptables, and iproute2.
    fn only(backends: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let programs = backends.iter().flat_map(|tool| [format!("{tool}-save"), format!("{tool}-restore")]);
        for program in programs.chain(["ip".to_owned()]) {
            let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(|place| Path::new(place).join(&program));
            let found = found.iter().find(|path| path.exists()).unwrap();
            symlink(found, directory.path().join(program)).unwrap();
        }
        Self(Some(directory))
    }

    fn cleanup(&self, node: &Place, more: &[&str]) -> String {
        let arguments = [&["cleanup", "--kube-proxy"], more].concat();
        let output = match &self.0 {
            None => run_to_end(node, &arguments, false).unwrap(),
            Some(path) => run_with_tools(node, &arguments, path.path()).unwrap(),
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// All rules of the node, without what changes by itself: counters, handles and dates.
fn rules(node: &Place) -> String {
    let saves = ["iptables-legacy", "ip6tables-legacy", "iptables-nft", "ip6tables-nft"];
    let all = saves.map(|tool| format!("echo '== {tool}'; {tool}-save"));
    let text = shell(node, &format!("{}; nft -s list ruleset", all.join("; ")));
    let is_rule = |line: &&str| !line.starts_with('#');
    let without_counts = |line: &str| match line.split_once(" [") {
        Some((chain, _)) if line.starts_with(':') => chain.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().filter(is_rule).map(|line| without_counts(line) + "\n").collect()
}

/// The rules without millrace's table or chain, without kubelet's KUBE-FIREWALL (the generators make it as kube-proxy does), and
/// without tables and built-in chains that hold no rule: nothing says who made these.
fn only_others(rules: &str) -> Vec<String> {
    let mut kept = Vec::new();
    for block in rules.split("table ") {
        // The compatibility layer's tables are in the dumps of iptables already.
        if block.starts_with("ip ") || block.starts_with("ip6 ") {
            assert!(!block.starts_with("ip kube-proxy") && !block.starts_with("ip6 kube-proxy"), "{block}");
            continue;
        }
        let empty = |line: &&str| line.starts_with(['*', ':']) && !line.ends_with(" -") || *line == "COMMIT";
        let skipped = |line: &str| ["KUBE-FIREWALL", "MILLRACE-ANCHOR"].iter().any(|name| line.contains(name));
        let rules = block.lines().filter(|line| !skipped(line) && !empty(line));
        kept.extend(rules.map(str::to_owned));
    }
    kept
}
