//! What changes about the node itself, at the API server and in its own kernel, is followed without a restart.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use millrace_tests::{
    agent::Agent,
    apiserver::ApiServerDouble,
    client,
    manifests::Manifests,
    network::{Network, NodeSpec},
    node::Node,
    place::Place,
    probe::{Manner, Outcome, Protocol},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(60);
const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 5, 10);
const NODE_PORT: u16 = 30_085;
/// Given to the node while the agent runs.
const LATER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);
/// Each the endpoint for one zone.
const PODS: [(&str, Ipv4Addr); 2] =
    [("for-a", Ipv4Addr::new(192, 168, 1, 21)), ("for-b", Ipv4Addr::new(192, 168, 1, 22))];

fn service() -> [Value; 2] {
    let endpoint = |(name, address): (&str, Ipv4Addr)| {
        let zone = name.trim_start_matches("for-");
        json!({
            "addresses": [address], "nodeName": "n1", "zone": zone,
            "conditions": {"ready": true}, "hints": {"forZones": [{"name": zone}]},
        })
    };
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "cart"},
        "spec": {
            "type": "NodePort", "clusterIP": CLUSTER_IP, "clusterIPs": [CLUSTER_IP],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": NODE_PORT}],
        },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "shop", "name": "cart", "labels": {"kubernetes.io/service-name": "cart"}},
        "ports": [{"port": 8080, "protocol": "TCP"}],
        "endpoints": PODS.map(endpoint),
    });
    [service, slice]
}

fn object(zone: &str, taint: Option<&str>) -> Value {
    let taints: Vec<Value> = taint.into_iter().map(|key| json!({"key": key, "effect": "NoSchedule"})).collect();
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {"taints": taints},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
    })
}

/// Who answers several connections, each once; empty where one of them was refused.
fn answering(place: &Place, to: Ipv4Addr, port: u16) -> Vec<String> {
    let to = [SocketAddr::new(IpAddr::V4(to), port)];
    let attempts = client::connect(place, &to, 8, &Manner::of(Protocol::Tcp)).unwrap();
    if attempts.iter().any(|attempt| attempt.outcome == Outcome::Refused) {
        return Vec::new();
    }
    let mut names: Vec<_> = attempts.iter().filter_map(|attempt| Some(attempt.outcome.server()?.to_owned())).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn status(node: &Node, path: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 10256))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: n1\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = node.netns.run(ask).unwrap().unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn zone_taint_and_addresses_are_followed_without_a_restart() {
    // An agent that is told of a zone keeps it.
    let mut network = Network::create(&[NodeSpec { name: "n1", zone: "", number: 1 }]).unwrap();
    for (name, address) in PODS {
        network.node_mut("n1").unwrap().add_pod(name, address).unwrap();
    }
    let node = network.node("n1").unwrap();
    let _serving = PODS.map(|(name, _)| client::serve(&node.pod(name).unwrap().place(), name, 8080).unwrap());
    let runtime = Runtime::new().unwrap();
    let entered = runtime.enter();
    let server = ApiServerDouble::start_on(node);
    drop(entered);
    service().into_iter().chain([object("a", None)]).for_each(|object| server.apply(object));
    let beside = Manifests::create().unwrap();
    let agent = Agent::spawn(node, &beside, &["--source", "kube", "--kube-api", &server.url()]).unwrap();
    let host = node.place();
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "not in time: {what}\n{}", agent.log_tail());
            thread::sleep(Duration::from_millis(50));
        }
    };
    until("the node is in zone a", &|| answering(&host, CLUSTER_IP, 80) == ["for-a"]);

    server.apply(object("b", None));
    until("the node is in zone b", &|| answering(&host, CLUSTER_IP, 80) == ["for-b"]);

    for (taint, healthz) in [(Some("ToBeDeletedByClusterAutoscaler"), "503"), (None, "200")] {
        server.apply(object("b", taint));
        until("load balancers are told whether the node goes", &|| status(node, "/healthz") == healthz);
        assert_eq!(status(node, "/livez"), "200");
    }
    assert_eq!(answering(&host, CLUSTER_IP, 80), ["for-b"], "a node that goes serves on");

    let before = answering(&host, LATER, NODE_PORT);
    assert_eq!(before, [""; 0], "nobody has this address");
    node.netns.ip(&[format!("address add {LATER}/24 dev uplink")]).unwrap();
    until("the node port is at the new address", &|| answering(&host, LATER, NODE_PORT) == ["for-b"]);
    node.netns.ip(&[format!("address del {LATER}/24 dev uplink")]).unwrap();
    until("the node port has left the address", &|| answering(&host, LATER, NODE_PORT).is_empty());
}
