//! A device whose packets have no Ethernet header, as a VPN makes them: an operator learns that clients who come by it are not
//! served, and the node's other devices serve theirs.

use std::net::{Ipv4Addr, SocketAddr};

use millrace_tests::{
    agent::Agent,
    client,
    manifests::{Endpoint, Manifests, Port, Service},
    network::Network,
    place::{self, Place},
    probe::{Manner, Protocol},
    told::assert_logged,
};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const N1: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const NODE_PORT: u16 = 30_088;
const PORT: u16 = 8088;

#[test]
fn a_vpn_with_a_default_route_is_named_and_the_nodes_uplink_serves_on() {
    let network = Network::of_one_node(&[("server", SERVER)]).unwrap();
    let node = network.node("n1").unwrap();
    node.netns
        .ip(&[
            "tuntap add mode tun name vpn0".to_owned(),
            "link set vpn0 up".to_owned(),
            "route add default dev vpn0 metric 5000".to_owned(),
        ])
        .unwrap();
    let _server = client::serve(&node.pod("server").unwrap().place(), "server", PORT).unwrap();
    let manifests = Manifests::create().unwrap();
    let service = Service {
        name: "vpn".into(),
        cluster_ips: vec![Ipv4Addr::new(10, 96, 15, 10).into()],
        ports: vec![Port { name: "tcp".into(), protocol: "TCP".into(), port: 80, target: PORT, node_port: NODE_PORT }],
        endpoints: vec![Endpoint { address: SERVER.into(), node: "n1".into(), terminating: false }],
        ..Service::default()
    };
    manifests.apply("service.yaml", &service.objects()).unwrap();
    let agent = Agent::start(node, &manifests, &[]).unwrap();
    assert_logged(&agent, &["WARN", "no Ethernet header", "vpn0", "--device"]);
    let log = agent.log_tail();
    let on = |device: &str| log.lines().any(|line| line.contains("device attached") && line.contains(device));
    assert!(on("uplink") && !on("vpn0"), "{log}");

    let outside = Place { netns: network.outside.handle(), cgroup: place::root().unwrap() };
    let to = SocketAddr::from((N1, NODE_PORT));
    let attempts = client::connect(&outside, &[to], 4, &Manner { timeout: 5000, ..Manner::of(Protocol::Tcp) }).unwrap();
    let served = attempts.iter().all(|attempt| attempt.outcome.server() == Some("server"));
    assert!(served && attempts.len() == 4, "{attempts:?}");
}
