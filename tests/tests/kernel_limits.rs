//! More services than the maps have room for: the others work, and an operator learns which wait and what to do about it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::net::{Ipv4Addr, SocketAddr};

use millrace_tests::{
    agent::Agent,
    client, http,
    manifests::{Endpoint, LoadBalancer, Manifests, Port, Service},
    network::Network,
    node::Node,
    probe::{Manner, Protocol},
    told::{assert_logged, wait_for_metrics},
};
use serde_json::json;

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
/// An external IP that two Services name.
const SHARED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 12, number)
}

/// A Service with so many ports, from 80 on; the endpoint serves all of them.
fn service(number: u8, ports: u16, external: bool) -> Service {
    let port = |n| Port { name: format!("p{n}"), protocol: "TCP".into(), port: 80 + n, target: 8080, node_port: 0 };
    Service {
        name: format!("full-{number}"),
        cluster_ips: vec![address(number).into()],
        ports: (0..ports).map(port).collect(),
        endpoints: vec![Endpoint { address: SERVER.into(), node: "n1".into(), terminating: false }],
        external_ips: external.then_some(SHARED.into()).into_iter().collect(),
        ..Service::default()
    }
}

fn served(node: &Node, to: Ipv4Addr) -> bool {
    let to = SocketAddr::from((to, 80));
    let place = node.pod("client").unwrap().place();
    let attempts = client::connect(&place, &[to], 1, &Manner::of(Protocol::Tcp)).unwrap();
    attempts.iter().all(|attempt| attempt.outcome.server() == Some("server"))
}

#[test]
fn services_beyond_the_maps_are_named_with_the_remedy_and_the_others_work() {
    let network = Network::of_one_node(&[("server", SERVER), ("client", CLIENT)]).unwrap();
    let node = network.node("n1").unwrap();
    let _serving = client::serve(&node.pod("server").unwrap().place(), "server", 8080).unwrap();
    let manifests = Manifests::create().unwrap();
    for (number, ports, external) in [(1, 1, true), (2, 1, true), (3, 2, false)] {
        manifests.apply(&format!("{number}.yaml"), &service(number, ports, external).objects()).unwrap();
    }
    let agent = Agent::spawn(node, &manifests, &["--max-services", "2", "--max-frontends", "64"]).unwrap();
    wait_for_metrics(
        node,
        &agent,
        &[
            "millrace_waiting_ports 2",
            "millrace_conflicting_frontends 1",
            "millrace_map_used{map=\"SERVICES\"} 2",
            "millrace_map_capacity{map=\"SERVICES\"} 2",
        ],
    );
    for port in ["default/full-3:p0", "default/full-3:p1"] {
        assert_logged(&agent, &["not programmed", port, "SERVICES", "(2 entries)", "raise --max-services"]);
    }
    assert_logged(&agent, &["a frontend is left out", "default/full-", "198.51.100.9:80/TCP"]);
    for to in [address(1), address(2), SHARED] {
        assert!(served(node, to), "{to} is not served:\n{}", agent.log_tail());
    }
    assert!(!served(node, address(3)), "there is no room for it");

    // One goes: its room is another's, and what it had claimed is the other claimant's.
    manifests.remove("1.yaml").unwrap();
    wait_for_metrics(node, &agent, &["millrace_waiting_ports 1", "millrace_conflicting_frontends 0"]);
    for to in [address(2), SHARED] {
        assert!(served(node, to), "{to} is not served:\n{}", agent.log_tail());
    }

    // What the log has told to do.
    agent.terminate().unwrap();
    let agent = Agent::spawn(node, &manifests, &["--max-services", "4", "--max-frontends", "64"]).unwrap();
    wait_for_metrics(node, &agent, &["millrace_waiting_ports 0", "millrace_map_used{map=\"SERVICES\"} 3"]);
    for to in [address(2), address(3)] {
        assert!(served(node, to), "{to} is not served:\n{}", agent.log_tail());
    }
    agent.terminate().unwrap();
}

/// A load balancer's address whose source ranges do not fit is closed, not open; nothing else of the Service or of the
/// node suffers from it.
#[test]
fn source_ranges_beyond_the_map_close_their_vip_and_leave_the_node_healthy() {
    const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 20);
    let network = Network::of_one_node(&[("server", SERVER), ("client", CLIENT)]).unwrap();
    let node = network.node("n1").unwrap();
    let _serving = client::serve(&node.pod("server").unwrap().place(), "server", 8080).unwrap();
    let manifests = Manifests::create().unwrap();
    let mut guarded = service(1, 1, false);
    let ranges = (0..4).map(|n| format!("203.0.113.{n}/32")).chain([format!("{CLIENT}/32")]).collect();
    guarded.load_balancer = Some(LoadBalancer { vips: vec![VIP.into()], ip_mode: None, source_ranges: ranges });
    manifests.apply("1.yaml", &guarded.objects()).unwrap();
    manifests.apply("2.yaml", &service(2, 1, false).objects()).unwrap();

    let agent = Agent::spawn(node, &manifests, &["--max-source-ranges", "4"]).unwrap();
    let full = ["millrace_waiting_ports 1", "millrace_map_used{map=\"SOURCE_RANGES_V4\"} 0"];
    let capacity = ["millrace_map_capacity{map=\"SOURCE_RANGES_V4\"} 4", "millrace_failed_operations_total 0"];
    wait_for_metrics(node, &agent, &[full, capacity].concat());
    let remedy = ["SOURCE_RANGES_V4", "(4 entries)", "raise --max-source-ranges"];
    assert_logged(&agent, &[&["WARN", "not programmed as wanted", "default/full-1:p0"][..], &remedy].concat());
    for to in [address(1), address(2)] {
        assert!(served(node, to), "{to} is not served:\n{}", agent.log_tail());
    }
    assert!(!served(node, VIP), "a VIP without its ranges is open");
    let healthz = http::get(&node.netns, (Ipv4Addr::LOCALHOST, 10256).into(), "/healthz").unwrap();
    assert!(healthz.status == 200 && !healthz.body.contains("\"lastUpdated\":\"\""), "in step: {healthz:?}");

    agent.terminate().unwrap();
    let agent = Agent::spawn(node, &manifests, &["--max-source-ranges", "8"]).unwrap();
    wait_for_metrics(node, &agent, &["millrace_waiting_ports 0", "millrace_map_used{map=\"SOURCE_RANGES_V4\"} 5"]);
    assert!(served(node, VIP), "its client is let in:\n{}", agent.log_tail());
    agent.terminate().unwrap();
    // Those that are there do not fit any more: nothing is thrown away to make them.
    let mut agent = Agent::spawn(node, &manifests, &["--max-source-ranges", "2"]).unwrap();
    assert!(agent.settle(&manifests).is_err(), "a size that cannot hold what is there is refused");
    assert_logged(&agent, &["SOURCE_RANGES_V4", "--max-source-ranges"]);
}

#[test]
fn service_ranges_beyond_the_map_are_named_and_fail_nothing() {
    let network = Network::of_one_node(&[("server", SERVER), ("client", CLIENT)]).unwrap();
    let node = network.node("n1").unwrap();
    let _serving = client::serve(&node.pod("server").unwrap().place(), "server", 8080).unwrap();
    let manifests = Manifests::create().unwrap();
    let cidr = |n: u16| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": format!("range-{n}")},
            "spec": {"cidrs": [format!("172.{}.{}.0/25", 16 + n / 250, n % 250)]},
        })
    };
    manifests.apply("ranges.yaml", &(0..300).map(cidr).collect::<Vec<_>>()).unwrap();
    manifests.apply("1.yaml", &service(1, 1, false).objects()).unwrap();
    let agent = Agent::spawn(node, &manifests, &[]).unwrap();
    wait_for_metrics(
        node,
        &agent,
        &[
            "millrace_map_used{map=\"SERVICE_CIDRS_V4\"} 256",
            "millrace_map_capacity{map=\"SERVICE_CIDRS_V4\"} 256",
            "millrace_failed_operations_total 0",
        ],
    );
    assert_logged(&agent, &["WARN", "a service range is left out", "172.", "--service-cidr", "ServiceCIDR"]);
    assert!(served(node, address(1)), "{}", agent.log_tail());
    agent.terminate().unwrap();
    // The remedy.
    let agent = Agent::spawn(node, &manifests, &["--service-cidr", "172.16.0.0/15"]).unwrap();
    // With the harness's own range.
    wait_for_metrics(node, &agent, &["millrace_map_used{map=\"SERVICE_CIDRS_V4\"} 2"]);
    agent.terminate().unwrap();
}
