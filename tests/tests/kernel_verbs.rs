//! What an operator is shown of a node's services, while the agent runs and after it has ended.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use millrace_tests::{
    address::twin,
    agent::{Agent, run_to_end},
    client,
    manifests::{Endpoint, Manifests, Port, Service},
    network::Network,
    node::Node,
    probe::{Manner, Protocol},
};
use serde_json::json;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 9, 10);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);

/// Standard output of a verb.
fn shown(node: &Node, verb: &str, format: &str) -> String {
    let bpffs = node.bpffs.path.display().to_string();
    let output = run_to_end(&node.place(), &[verb, "-o", format, "--bpffs", &bpffs], false).unwrap();
    assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Each verb, and what its output has: the words of a line of its table.
const SHOWN: [(&str, &[&str]); 5] = [
    ("services", &["10.96.9.10:53", "default/dns"]),
    ("backends", &["192.168.1.11:8080", "default/dns"]),
    ("conntrack", &["192.168.1.12:", "10.96.9.10:53", "192.168.1.11:8080"]),
    ("stats", &["packet_new_flow", "1"]),
    ("status", &["CT_V4", "131072"]),
];

fn everything_is_shown(node: &Node) {
    for (verb, words) in SHOWN {
        let table = shown(node, verb, "table");
        let has_all = |line: &str| words.iter().all(|word| line.contains(word));
        assert!(table.lines().any(has_all), "{verb} has no line with {words:?}:\n{table}");
        let json: serde_json::Value = serde_json::from_str(&shown(node, verb, "json")).unwrap();
        let text = json.to_string();
        for word in words.iter().filter(|word| word.contains('.') || word.contains('_')) {
            let (address, _) = word.split_once(':').unwrap_or((word, ""));
            assert!(text.contains(address), "{verb} has no {address}: {text}");
        }
    }
}

#[test]
fn everything_is_shown_with_an_agent_and_without_one() {
    let network = Network::of_one_node(&[("server", SERVER), ("client", CLIENT)]).unwrap();
    let node = network.node("n1").unwrap();
    let _serving = client::serve(&node.pod("server").unwrap().place(), "server", 8080).unwrap();
    let endpoint = |address| Endpoint { address, node: "n1".into(), terminating: false };
    let service = Service {
        name: "dns".into(),
        cluster_ips: vec![VIP.into(), twin(VIP).into()],
        ports: vec![Port { name: "udp".into(), protocol: "UDP".into(), port: 53, target: 8080, node_port: 0 }],
        endpoints: [IpAddr::from(SERVER), twin(SERVER).into()].map(endpoint).into(),
        ..Service::default()
    };
    let manifests = Manifests::create().unwrap();
    manifests.apply("service.yaml", &service.objects()).unwrap();
    let agent = Agent::start(node, &manifests, &[]).unwrap();
    let to = SocketAddr::from((VIP, 53));
    let place = node.pod("client").unwrap().place();
    let asked = client::connect(&place, &[to], 1, &Manner::of(Protocol::Udp)).unwrap();
    assert!(asked.iter().all(|attempt| attempt.outcome.server() == Some("server")), "{asked:?}");

    everything_is_shown(node);
    let services: serde_json::Value = serde_json::from_str(&shown(node, "services", "json")).unwrap();
    let dns = services.as_array().unwrap().iter().find(|s| s["name"].as_str().unwrap().starts_with("default/dns"));
    let sets = [&dns.unwrap()["cluster"], &dns.unwrap()["local"]];
    assert_eq!(sets, [&json!({"endpoints": 1, "verdict": "serve"}), &json!({"endpoints": 0, "verdict": "unused"})]);
    assert!(shown(node, "status", "table").lines().any(|line| line.starts_with("agent") && line.contains(" running")));
    agent.terminate().unwrap();
    everything_is_shown(node);
    assert!(shown(node, "status", "table").contains("not running"));
}
