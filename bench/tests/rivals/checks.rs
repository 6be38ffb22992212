//! What every rival must do, since kube-proxy does it: asked with real connections, in both families.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
};

use millrace_bench::rivals::Rival;
use millrace_tests::{
    address::in_family,
    client::connect,
    place::Place,
    probe::{self, Attempt, Manner, Outcome},
};

use super::stage::{
    BYSTANDER, CLIENT, IDLE, IDLE_NODE_PORT, MANY, OWN, P1, P2, Stage, WEB, WEB_NODE_PORT, service, services,
};

pub(crate) fn at(address: Ipv4Addr, v6: bool, port: u16) -> SocketAddr {
    SocketAddr::new(in_family(address, v6), port)
}

/// Connects `count` times; every one must be answered by whom it was sent to. Who answered, and whom they saw.
pub(crate) fn answers(
    from: &Place,
    to: SocketAddr,
    count: usize,
    protocol: probe::Protocol,
) -> (BTreeSet<String>, BTreeSet<IpAddr>) {
    let attempts = connect(from, &[to], count, &patiently(protocol)).unwrap();
    let answered = attempts.into_iter().map(|attempt| match attempt.outcome {
        Outcome::Answered { greeting, peer } => {
            assert_eq!(peer, to, "the reply to {to} was not translated back");
            (greeting.name, greeting.client.ip())
        }
        _ => panic!("{attempt:?}"),
    });
    answered.unzip()
}

fn once(from: &Place, to: SocketAddr) -> Attempt {
    connect(from, &[to], 1, &Manner::of(probe::Protocol::Tcp)).unwrap().remove(0)
}

/// Waits longer than any answer takes on a machine that is busy, or emulated.
fn patiently(protocol: probe::Protocol) -> Manner {
    Manner { timeout: 20_000, ..Manner::of(protocol) }
}

/// Refused by ICMP, as kube-proxy refuses, and not merely unanswered. TCP learns of it when it sends its SYN again after a
/// second: the answer to the first comes while `connect` still holds the socket, since all is one machine.
pub(crate) fn assert_refused(from: &Place, to: SocketAddr) {
    assert_refused_over(from, to, probe::Protocol::Udp);
    assert_refused_over(from, to, probe::Protocol::Tcp);
}

fn assert_refused_over(from: &Place, to: SocketAddr, protocol: probe::Protocol) {
    let attempt = connect(from, &[to], 1, &patiently(protocol)).unwrap().remove(0);
    assert_eq!(attempt.outcome, Outcome::Refused, "{protocol:?} to {to}");
}

pub(crate) fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

fn behaves_as_kube_proxy_does(rival: &mut dyn Rival, stage: &Stage) {
    println!("{}: {}", rival.name(), rival.version().unwrap());
    rival.program(services()).unwrap();
    let (client, outside, on_node) = (stage.pod("client"), stage.outside(), stage.on_node());
    for v6 in [false, true] {
        let node = in_family(Ipv4Addr::new(10, 0, 0, 1), v6);
        let web = at(WEB, v6, 80);
        // A pod reaches every endpoint and no other pod, with its own address.
        for protocol in [probe::Protocol::Tcp, probe::Protocol::UdpUnconnected] {
            let (servers, seen) = answers(&client, web, MANY, protocol);
            assert_eq!(servers, names(["p1", "p2"]), "{web}");
            assert_eq!(seen, BTreeSet::from([in_family(CLIENT, v6)]), "a pod's address is kept");
        }
        // What comes from neither pod nor node is masqueraded: the answer must come back this way.
        let (servers, seen) = answers(&outside, web, 4, probe::Protocol::Tcp);
        assert!(servers.is_subset(&names(["p1", "p2"])));
        assert_eq!(seen, BTreeSet::from([node]), "the outside is masqueraded on its way to a ClusterIP");
        // So is what comes to a node port.
        let (servers, seen) = answers(&outside, SocketAddr::new(node, WEB_NODE_PORT), MANY, probe::Protocol::Tcp);
        assert_eq!((servers, seen), (names(["p1", "p2"]), BTreeSet::from([node])));
        // The node's own processes.
        let (servers, seen) = answers(&on_node, web, MANY, probe::Protocol::Tcp);
        assert_eq!((servers, seen), (names(["p1", "p2"]), BTreeSet::from([node])));
        // A pod that reaches itself sees the node, or it would answer to itself.
        let (servers, seen) = answers(&stage.pod("p1"), at(OWN, v6, 80), 4, probe::Protocol::Tcp);
        assert_eq!((servers, seen), (names(["p1"]), BTreeSet::from([node])));
        // Without endpoints: refused on every frontend.
        for from in [&client, &outside] {
            assert_refused(from, at(IDLE, v6, 80));
        }
        // (The node's own datagrams fail with EPERM: its output chain refuses them.)
        assert_refused_over(&on_node, at(IDLE, v6, 80), probe::Protocol::Tcp);
        assert_refused(&outside, SocketAddr::new(node, IDLE_NODE_PORT));
    }
}

fn follows_changes(rival: &mut dyn Rival, stage: &Stage) {
    let client = stage.pod("client");
    for v6 in [false, true] {
        let web = at(WEB, v6, 80);
        let answered_by = || answers(&client, web, MANY, probe::Protocol::Tcp).0;
        rival.change(service("web", WEB, v6, WEB_NODE_PORT, &[P2])).unwrap();
        assert_eq!(answered_by(), names(["p2"]));
        rival.change(service("web", WEB, v6, WEB_NODE_PORT, &[P2, BYSTANDER])).unwrap();
        assert_eq!(answered_by(), names(["bystander", "p2"]));
        rival.change(service("web", WEB, v6, WEB_NODE_PORT, &[])).unwrap();
        assert_refused(&client, web);
        rival.change(service("web", WEB, v6, WEB_NODE_PORT, &[P1])).unwrap();
        assert_eq!(answered_by(), names(["p1"]));
        let new = service("new", Ipv4Addr::new(10, 96, 0, 20), v6, 0, &[P2]);
        rival.change(new.clone()).unwrap();
        let (servers, _) = answers(&client, SocketAddr::new(new.cluster_ip, 80), 4, probe::Protocol::Tcp);
        assert_eq!(servers, names(["p2"]));
        rival.remove(&new.key()).unwrap();
        let gone = once(&client, SocketAddr::new(new.cluster_ip, 80));
        assert_eq!(gone.outcome.server(), None, "{gone:?}");
        rival.remove(&new.key()).unwrap();
        assert_eq!(answered_by(), names(["p1"]), "the others stay");
    }
}

fn is_gone_after_cleanup(rival: &mut dyn Rival, stage: &Stage) {
    rival.cleanup().unwrap();
    rival.cleanup().unwrap();
    let shown = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let savers = ["iptables-legacy-save", "iptables-nft-save", "ip6tables-legacy-save", "ip6tables-nft-save"];
    let node = &stage.network.node("n1").unwrap().netns;
    let left = node.run(|| savers.map(|saver| shown(saver, &[])).concat() + &shown("nft", &["list", "ruleset"]));
    let left = left.unwrap();
    assert!(!left.contains("KUBE-") && !left.contains("kube-proxy"), "{left}");
}

pub(crate) fn all(rival: &mut dyn Rival, stage: &Stage) {
    behaves_as_kube_proxy_does(rival, stage);
    follows_changes(rival, stage);
    is_gone_after_cleanup(rival, stage);
}
