//! A node with other proxies on it: kube-proxy, which holds the ports where a node's health is asked for, and proxies that
//! serve Services of their own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use millrace_tests::{
    agent::Agent,
    client::{self, Running},
    http,
    manifests::{Endpoint, Manifests, Port, Service},
    network::Network,
    node::Node,
    probe::{Manner, Outcome, Protocol},
};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const PATIENCE: Duration = Duration::from_secs(60);
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

fn network() -> (Network, Running) {
    let network = Network::of_one_node(&[("server", SERVER), ("client", CLIENT)]).unwrap();
    let serving = client::serve(&network.node("n1").unwrap().pod("server").unwrap().place(), "server", 8080).unwrap();
    (network, serving)
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 13, number)
}

/// A Service and its slices, both with the label where there is one.
fn apply(manifests: &Manifests, number: u8, proxy_name: Option<&str>) {
    let service = Service {
        name: format!("beside-{number}"),
        cluster_ips: vec![address(number).into()],
        ports: vec![Port { name: "tcp".into(), protocol: "TCP".into(), port: 80, target: 8080, node_port: 0 }],
        endpoints: vec![Endpoint { address: SERVER.into(), node: "n1".into(), terminating: false }],
        ..Service::default()
    };
    let mut objects = service.objects();
    for object in &mut objects {
        if let Some(name) = proxy_name {
            object["metadata"]["labels"][PROXY_NAME] = name.into();
        }
    }
    manifests.apply(&format!("{number}.yaml"), &objects).unwrap();
}

fn is_served(node: &Node, to: Ipv4Addr) -> bool {
    let place = node.pod("client").unwrap().place();
    let attempts = client::connect(&place, &[SocketAddr::from((to, 80))], 1, &Manner::of(Protocol::Tcp)).unwrap();
    match &attempts[0].outcome {
        // Of the range, and nobody's.
        Outcome::Silence => false,
        outcome => outcome.server() == Some("server"),
    }
}

fn until(agent: &Agent, what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}\n{}", agent.log_tail());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_agent_serves_beside_kube_proxy_and_takes_its_ports_over_once_they_are_free() {
    let (network, _serving) = network();
    let node = network.node("n1").unwrap();
    let (everywhere, loopback) = ((Ipv6Addr::UNSPECIFIED, 10256), (Ipv4Addr::LOCALHOST, 10249));
    let held = node.netns.run(|| (TcpListener::bind(everywhere).unwrap(), TcpListener::bind(loopback).unwrap()));
    let held = held.unwrap();
    let manifests = Manifests::create().unwrap();
    apply(&manifests, 1, None);
    let agent = Agent::start(node, &manifests, &[]).unwrap();
    assert!(is_served(node, address(1)), "{}", agent.log_tail());

    // Long enough for a second attempt to say the same again.
    thread::sleep(Duration::from_secs(3));
    // From its beginning: the ports are asked for first.
    let log = fs::read_to_string(manifests.beside().join("agent-n1.log")).unwrap();
    for (what, port, flag) in [("health checks", ":10256", "--health-addr"), ("metrics", ":10249", "--metrics-addr")] {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(what)).collect();
        let [line] = lines[..] else { panic!("{what}: said once, with the remedy, not {lines:?}:\n{log}") };
        let parts = ["WARN", port, "another process", "end it", flag];
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
    }

    let metrics = || http::get(&node.netns, loopback.into(), "/metrics");
    let (health_port, metrics_port) = held;
    drop(metrics_port);
    until(&agent, "metrics are read", || metrics().is_ok_and(|it| it.status == 200 && it.body.contains("millrace_")));
    drop(health_port);
    for to in [SocketAddr::from((Ipv4Addr::LOCALHOST, 10256)), (Ipv6Addr::LOCALHOST, 10256).into()] {
        until(&agent, "the node is healthy", || {
            http::get(&node.netns, to, "/healthz").is_ok_and(|it| it.status == 200)
        });
    }
    assert!(is_served(node, address(1)), "{}", agent.log_tail());
    agent.terminate().unwrap();
}

#[test]
fn services_of_another_proxys_name_are_left_alone_and_those_of_the_agents_own_are_served() {
    let (network, _serving) = network();
    let node = network.node("n1").unwrap();
    let manifests = Manifests::create().unwrap();
    for (number, name) in [(1, None), (2, Some("mill.example")), (3, Some("another"))] {
        apply(&manifests, number, name);
    }
    let mut served = Vec::new();
    for arguments in [&["--service-proxy-name", "mill.example"][..], &[]] {
        let agent = Agent::start(node, &manifests, arguments).unwrap();
        // What an earlier agent served, and this one does not, goes.
        let count = if arguments.is_empty() { 1 } else { 2 };
        until(&agent, "the Services are in the maps", || {
            (1..4).filter(|number| is_served(node, address(*number))).count() == count
        });
        served.push((1..4).map(|number| is_served(node, address(number))).collect::<Vec<_>>());
        agent.terminate().unwrap();
    }
    assert_eq!(served, [[true, true, false], [true, false, false]]);
}
