//! A Service more than BACKENDS, the frontends or the arena of sets have room for is refused by name, the others go on, and
//! room that comes free is used. (`kernel_limits` asks the same of SERVICES.)
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::net::{Ipv4Addr, SocketAddr};

use millrace_tests::{
    agent::Agent,
    client::{self, Load},
    manifests::{Endpoint, Manifests, Port, Service},
    network::Network,
    node::Node,
    probe::{Manner, Protocol},
    told::{assert_logged, wait_for_metrics},
};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);

/// A map with room for two Services of one endpoint each.
struct Full {
    map: &'static str,
    flag: &'static str,
    capacity: &'static str,
    /// Where the other maps would be as small by default.
    more: &'static [&'static str],
}

#[test]
fn endpoints_beyond_the_map_are_refused_by_name_and_have_the_next_free_room() {
    is_refused_and_served_later(&Full {
        map: "BACKENDS",
        flag: "--max-backends",
        capacity: "2",
        more: &["--max-slots", "64"],
    });
}

/// Each ClusterIP takes a second entry, its mark.
#[test]
fn frontends_beyond_the_map_are_refused_by_name_and_have_the_next_free_room() {
    is_refused_and_served_later(&Full { map: "FRONTENDS_V4", flag: "--max-frontends", capacity: "4", more: &[] });
}

#[test]
fn a_set_beyond_the_arena_is_refused_by_name_and_has_the_next_free_room() {
    is_refused_and_served_later(&Full { map: "SLOTS_V4", flag: "--max-slots", capacity: "2", more: &[] });
}

fn is_refused_and_served_later(full: &Full) {
    let Full { map, flag, capacity, more } = *full;
    let network = Network::of_one_node(&[("server", SERVER), ("client", CLIENT)]).unwrap();
    let node = network.node("n1").unwrap();
    let _serving = client::serve(&node.pod("server").unwrap().place(), "server", 8080).unwrap();
    let manifests = Manifests::create().unwrap();
    let apply = |number| manifests.apply(&format!("{number}.yaml"), &service(number).objects()).unwrap();
    [1, 2].into_iter().for_each(apply);
    let agent = Agent::spawn(node, &manifests, &[&[flag, capacity], more].concat()).unwrap();
    let used = format!("millrace_map_used{{map=\"{map}\"}} {capacity}");
    let size = format!("millrace_map_capacity{{map=\"{map}\"}} {capacity}");
    wait_for_metrics(node, &agent, &["millrace_waiting_ports 0", &used, &size]);

    let live = load(node);
    apply(3);
    wait_for_metrics(node, &agent, &["millrace_waiting_ports 1", &used]);
    let entries = format!("({capacity} entries)");
    let remedy = format!("raise {flag}");
    assert_logged(&agent, &["not programmed", "default/full-3:p0", map, &entries, &remedy]);
    assert!([1, 2].into_iter().all(|number| served(node, address(number))), "{}", agent.log_tail());
    assert!(!served(node, address(3)), "there is no room for it");

    manifests.remove("2.yaml").unwrap();
    wait_for_metrics(node, &agent, &["millrace_waiting_ports 0", &used]);
    assert!([1, 3].into_iter().all(|number| served(node, address(number))), "{}", agent.log_tail());
    assert!(!served(node, address(2)), "it is gone");

    let report = live.stop().unwrap();
    assert_eq!(report.failed, 0, "the one that had room all the while: {:?}", report.failures);
    assert!(report.total() > 10, "{report:?}");
    agent.terminate().unwrap();
}

/// Connections to the first Service without end.
fn load(node: &Node) -> Load {
    let manner = Manner { every: 5, ..Manner::of(Protocol::Tcp) };
    Load::start(&node.pod("client").unwrap().place(), &[(address(1), 80).into()], 1, &manner).unwrap()
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 15, number)
}

fn service(number: u8) -> Service {
    Service {
        name: format!("full-{number}"),
        cluster_ips: vec![address(number).into()],
        ports: vec![Port { name: "p0".into(), protocol: "TCP".into(), port: 80, target: 8080, node_port: 0 }],
        endpoints: vec![Endpoint { address: SERVER.into(), node: "n1".into(), terminating: false }],
        ..Service::default()
    }
}

fn served(node: &Node, to: Ipv4Addr) -> bool {
    let to = SocketAddr::from((to, 80));
    let place = node.pod("client").unwrap().place();
    let attempts = client::connect(&place, &[to], 1, &Manner::of(Protocol::Tcp)).unwrap();
    attempts.iter().all(|attempt| attempt.outcome.server() == Some("server"))
}
