//! A firewall on the node, through `nft`, or IPsec: while somebody sees what the node forwards, he sees all of it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
    time::{Duration, Instant},
};

use millrace_common::verdict::Verdict;
use millrace_tests::{
    address::twin,
    agent::Agent,
    client,
    manifests::Manifests,
    network::Network,
    node::Node,
    probe::{Manner, Protocol},
};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const PORT: u16 = 8080;

fn nft(node: &Node, ruleset: &str) {
    let run = || Command::new("nft").arg(ruleset).output().unwrap();
    let output = node.netns.run(run).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn routed(node: &Node) -> u64 {
    node.count(Verdict::HostRouted).unwrap()
}

/// In both families; true if all are answered.
fn are_answered(node: &Node) -> bool {
    let to = [IpAddr::from(SERVER), twin(SERVER).into()].map(|ip| SocketAddr::new(ip, PORT));
    let attempts = client::connect(&node.pod("client").unwrap().place(), &to, 2, &Manner::of(Protocol::Udp)).unwrap();
    attempts.iter().all(|attempt| attempt.outcome.server().is_some())
}

fn go_past(node: &Node) -> bool {
    let before = routed(node);
    are_answered(node) && routed(node) >= before + 4
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "not after 30 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_firewall_that_comes_and_goes_is_heeded() {
    let network = Network::of_one_node(&[("server", SERVER), ("client", CLIENT)]).unwrap();
    let node = network.node("n1").unwrap();
    let _serving = client::serve(&node.pod("server").unwrap().place(), "server", PORT).unwrap();
    let _agent = Agent::start(node, &Manifests::create().unwrap(), &[]).unwrap();
    wait_until("packets go past the stack", || go_past(node));

    // As the kubelet's chains, or a firewall of the node's own addresses: nothing of it concerns pods.
    nft(
        node,
        "table inet own { chain in { type filter hook input priority 0; policy accept; ct state invalid drop; };
        chain idle { type filter hook forward priority 0; policy accept; }; }",
    );
    std::thread::sleep(Duration::from_secs(6));
    assert!(go_past(node), "a chain that sees no packet of pods keeps none back");

    nft(
        node,
        "table inet walls { chain forward { type filter hook forward priority 0; policy accept; udp dport 8080 drop; }; }",
    );
    wait_until("the firewall drops what it is told to", || !are_answered(node));
    let before = routed(node);
    assert!(!are_answered(node));
    assert_eq!(routed(node), before, "and sees every packet");

    nft(node, "delete table inet walls");
    wait_until("packets go past the stack again", || go_past(node));

    let policy = format!("src {CLIENT} dst {SERVER} dir fwd");
    node.netns.ip(&[format!("xfrm policy add {policy} action block")]).unwrap();
    wait_until("a policy of IPsec is heeded", || !are_answered(node));
    node.netns.ip(&[format!("xfrm policy delete {policy}")]).unwrap();
    wait_until("packets go past the stack again", || go_past(node));

    let device = &node.pod("server").unwrap().device;
    nft(
        node,
        &format!("table netdev near {{ chain at {{ type filter hook ingress device {device} priority 0; drop; }}; }}"),
    );
    wait_until("a chain on the device has its packets", || !are_answered(node));
}
