//! A node leaves kube-proxy's IPVS mode for millrace: the agent starts beside kube-ipvs0, the virtual servers and the sets,
//! and serves; then `cleanup --kube-proxy` takes them away, and no connection notices.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    thread,
    time::{Duration, Instant},
};

use millrace_bench::rivals::Rival;
use millrace_tests::{
    agent::{Agent, run_to_end},
    client::{Load, connect},
    manifests::Manifests,
    place::Place,
    probe::{self, Manner, Outcome},
};

use crate::{
    ipvs,
    rivals::{
        checks::at,
        moving::{assert_went_on, shell, talking, translated, web},
        stage::{Stage, WEB, services},
    },
};

/// Another's, of every kind that is kube-proxy's as well: servers at an address of its own and at one of the node's, a
/// set, a device. (`/usr/sbin/ip`: busybox' shell has an `ip` of its own.)
const FOREIGN: &str = "ipset create mine hash:ip,port; ipset add mine 10.96.0.10,tcp:80; \
    /usr/sbin/ip link add mine0 type dummy; /usr/sbin/ip address add 198.51.100.50/32 dev mine0; \
    ipvsadm -A -t 198.51.100.50:30080 -s rr; ipvsadm -A -t 10.0.0.1:8443 -s rr; ipvsadm -A -f 7 -s rr";

/// All that kube-proxy and others have here, apart from rules.
const STATE: &str = "{ ipvsadm -S -n; ipset save; /usr/sbin/ip -o address show; } | sort";

/// The machine may be an emulated one, in which an agent's start is long enough without much else to do.
const SLOWLY: Manner = Manner { every: 100, timeout: 30_000, ..Manner::of(probe::Protocol::Tcp) };

const CLEANUP: [&str; 2] = ["cleanup", "--kube-proxy"];

fn cleanup(node: &Place, more: &[&str]) -> String {
    let output = run_to_end(node, &[&CLEANUP, more].concat(), false).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// How many connections IPVS has begun.
fn begun(node: &Place) -> u64 {
    let servers = shell(node, "ipvsadm -L -n --stats --exact");
    let of_server = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        ["TCP", "UDP"].contains(words.first()?).then(|| words[2].parse::<u64>().unwrap())
    };
    servers.lines().filter_map(of_server).sum()
}

#[test]
fn a_node_moves_from_ipvs_to_millrace_under_load() {
    let stage = Stage::new();
    let Some(mut rival) = ipvs(&stage) else { return };
    let node = stage.on_node();
    shell(&node, FOREIGN);
    let foreign = shell(&node, STATE);
    rival.program(services()).unwrap();
    let mut ways = translated(&stage);
    ways.extend([false, true].map(|v6| (stage.on_node(), at(WEB, v6, 80))));
    let streams: Vec<_> = ways.iter().map(|(from, to)| talking(from, *to, &SLOWLY)).collect();
    let loads: Vec<_> = ways.iter().map(|(from, to)| Load::start(from, &[*to], 1, &SLOWLY).unwrap()).collect();

    let manifests = Manifests::create().unwrap();
    manifests.apply("web.yaml", &web().objects()).unwrap();
    let agent = Agent::start(stage.network.node("n1").unwrap(), &manifests, &[]).unwrap();
    let listed = agent.ask(&["services"]).unwrap();
    assert!(listed.contains("\"10.96.0.10:80") && !listed.contains("10.96.0.10:30080"), "{listed}");
    thread::sleep(Duration::from_millis(500));
    let before = begun(&node);
    for (from, to) in &ways {
        let attempts = connect(from, &[*to], 4, &SLOWLY).unwrap();
        assert!(attempts.iter().all(|attempt| attempt.outcome.server().is_some()), "{to}: {attempts:?}");
    }
    assert_eq!(begun(&node), before, "what is new is millrace's: {}", shell(&node, "ipvsadm -L -n --stats"));

    let full = shell(&node, STATE);
    let said = cleanup(&node, &["--dry-run"]);
    for part in [
        "virtual servers have",
        "would drain IPVS: virtual server -t 10.96.0.10:80: no new connections,",
        "would drain IPVS: virtual server -t [fd00:10:96::a]:80: no new connections,",
        "would drain IPVS: virtual server -t 10.0.0.1:30080: no new connections,",
        "would remove IPVS: virtual server -u 10.96.0.10:80\n",
        "would remove IPVS: virtual server -t 10.96.0.12:80\n",
        "would add nftables: table ip millrace",
    ] {
        assert!(said.contains(part), "{part}:\n{said}");
    }
    assert!(!["198.51.100.50", "8443", "mine"].iter().any(|other| said.contains(other)), "{said}");
    assert_eq!(shell(&node, STATE), full, "--dry-run changed something");

    let done = cleanup(&node, &[]);
    assert!(done.contains("\ndrains IPVS: virtual server -t 10.96.0.10:80: no new connections,"), "{done}");
    assert!(done.contains("\nremoved IPVS: virtual server -u 10.96.0.10:80\n"), "{done}");
    assert!(!done.contains("kube-ipvs0\n") && shell(&node, STATE).contains("kube-ipvs0"), "{done}");
    thread::sleep(Duration::from_secs(3));
    for (stream, (_, to)) in streams.into_iter().zip(&ways) {
        assert_went_on(stream, *to);
    }

    // What the note says for who cannot wait until the kernel has forgotten them.
    let busy = done.lines().filter_map(|line| line.strip_prefix("drains IPVS: virtual server ")?.split(": ").next());
    busy.for_each(|server| drop(shell(&node, &format!("ipvsadm -D {server}"))));
    let done = cleanup(&node, &[]);
    assert!(done.contains("removed IPVS: device kube-ipvs0\n"), "{done}");
    assert!(done.contains("removed IPVS: set KUBE-CLUSTER-IP\n"), "{done}");
    assert_eq!(shell(&node, STATE), foreign, "another's is gone, or kube-proxy's is left");
    assert!(cleanup(&node, &[]).contains("nothing of kube-proxy to remove\n"));
    let rules = shell(&node, "iptables-nft-save; ip6tables-nft-save");
    assert!(!rules.contains("KUBE-SERVICES") && !rules.contains("KUBE-POSTROUTING"), "{rules}");

    for (load, (_, to)) in loads.into_iter().zip(&ways) {
        let report = load.stop().unwrap();
        assert_eq!(report.failed, 0, "{to}: {:?}", report.failures);
        assert!(report.total() > 10, "{to}: {report:?}");
    }
}

#[test]
fn a_virtual_server_goes_once_its_last_connection_has_ended() {
    let stage = Stage::new();
    let Some(mut rival) = ipvs(&stage) else { return };
    let node = stage.on_node();
    rival.program(services()).unwrap();
    let web = at(WEB, false, 80);
    let stream = talking(&stage.pod("client"), web, &SLOWLY);
    let said = cleanup(&node, &[]);
    assert!(said.contains("IPVS: 1 virtual servers have 1 connections"), "{said}");
    assert!(said.contains("drains IPVS: virtual server -t 10.96.0.10:80: no new connections, 1 go on\n"), "{said}");
    let again = cleanup(&node, &[]);
    assert!(again.ends_with("nothing of kube-proxy to remove yet\n"), "{again}");
    thread::sleep(Duration::from_secs(6));
    let new = connect(&stage.pod("client"), &[web], 1, &Manner::of(probe::Protocol::Tcp)).unwrap();
    assert_eq!(new[0].outcome.server(), None, "weight 0 and no millrace: {new:?}");

    // The kernel forgets it two minutes after its last segment (TIME_WAIT in ip_vs_proto_tcp.c, no variable).
    assert_went_on(stream, web);
    let deadline = Instant::now() + Duration::from_secs(300);
    while !cleanup(&node, &[]).contains("removed IPVS: device kube-ipvs0\n") {
        assert!(Instant::now() < deadline, "{}", shell(&node, "ipvsadm -L -n; ipvsadm -L -n -c"));
        thread::sleep(Duration::from_secs(5));
    }
    assert_eq!(shell(&node, "ipvsadm -S -n; ipset list -n"), "");
}

/// Why a server with connections is not removed.
#[test]
fn the_kernel_ends_a_connection_with_its_virtual_server() {
    let stage = Stage::new();
    let Some(mut rival) = ipvs(&stage) else { return };
    rival.program(services()).unwrap();
    let mut stream = talking(&stage.pod("client"), at(WEB, false, 80), &SLOWLY);
    shell(&stage.on_node(), "ipvsadm -D -t 10.96.0.10:80");
    let ended = |outcome: &Outcome| !matches!(outcome, Outcome::Answered { .. });
    stream.wait_for(Duration::from_secs(30), ended).unwrap();
    let lines = stream.stop().unwrap();
    let last = &lines[lines.len() - 1];
    assert!(matches!(&last.outcome, Outcome::Failed(words) if words.contains("reset")), "{lines:?}");
}
