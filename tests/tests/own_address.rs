//! The node's own address, where nobody names it: it may come late, change, or be on another device than the default route's.
//! Clients outside, with real sockets, reach backends elsewhere all the same.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use millrace_common::verdict::Verdict;
use millrace_tests::{
    address::{in_family, twin},
    agent::Agent,
    apiserver::ApiServerDouble,
    client::{self, Load, Stream},
    manifests::{Endpoint, LoadBalancer, Manifests, Port, Service},
    network::{Network, NodeSpec, OUTSIDE},
    node::Node,
    place::{self, Place},
    probe::{Manner, Outcome, Protocol},
};
use serde_json::json;
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(60);
const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 7, 10);
const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const NODE_PORT: u16 = 30_087;
const PORT: u16 = 8087;
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const N1: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const N2: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// As which a lease is renewed.
const RENUMBERED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);
/// On a device that no default route leads over.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// A pod of n2, and the range of such pods.
const THERE: Ipv4Addr = Ipv4Addr::new(192, 168, 2, 21);
const PODS: Ipv4Addr = Ipv4Addr::new(192, 168, 2, 0);

fn network() -> Network {
    let spec = |name, number| NodeSpec { name, zone: "a", number };
    let mut network = Network::create(&[spec("n1", 1), spec("n2", 2)]).unwrap();
    network.node_mut("n2").unwrap().add_pod("there", THERE).unwrap();
    network
}

fn service(node: &str, backend: Ipv4Addr) -> Service {
    let port = |protocol: &str| Port {
        name: protocol.to_lowercase(),
        protocol: protocol.to_owned(),
        port: 80,
        target: PORT,
        node_port: NODE_PORT,
    };
    let both = |ip: Ipv4Addr| [IpAddr::from(ip), twin(ip).into()];
    let endpoint = |address| Endpoint { address, node: node.to_owned(), terminating: false };
    Service {
        name: "own".into(),
        cluster_ips: both(CLUSTER_IP).into(),
        ports: vec![port("TCP"), port("UDP")],
        endpoints: both(backend).map(endpoint).into(),
        load_balancer: Some(LoadBalancer { vips: both(VIP).into(), ..LoadBalancer::default() }),
        ..Service::default()
    }
}

/// n1 has no address and no way out.
fn unplug(n1: &Node) {
    n1.netns.sysctl(&[("ipv6/conf/uplink/keep_addr_on_down", "0")]).unwrap();
    // An IPv6 device that comes up again has its link-local address only, and no route of before.
    n1.netns.ip(&["address flush dev uplink scope global", "link set uplink down", "link set uplink up"]).unwrap();
}

/// n1 has this address, and routes to everybody.
fn plug(n1: &Node, address: Ipv4Addr) {
    n1.netns
        .ip(&[
            format!("address add {address}/24 dev uplink"),
            format!("address add {}/64 dev uplink nodad", twin(address)),
        ])
        .unwrap();
    n1.netns.wait_for_address(twin(address)).unwrap();
    let routes = [
        format!("route replace default via {ROUTER}"),
        format!("route replace default via {}", twin(ROUTER)),
        format!("route replace {PODS}/24 via {N2}"),
        format!("route replace {}/64 via {}", twin(PODS), twin(N2)),
    ];
    n1.netns.ip(&routes).unwrap();
}

fn outside(network: &Network) -> Place {
    Place { netns: network.outside.handle(), cgroup: place::root().unwrap() }
}

/// Who answers a client outside, and whom the server took for the client.
fn greeted(network: &Network, to: IpAddr, port: u16, protocol: Protocol) -> Option<(String, IpAddr)> {
    let manner = Manner { timeout: 300, ..Manner::of(protocol) };
    let attempts = client::connect(&outside(network), &[SocketAddr::new(to, port)], 1, &manner).unwrap();
    match attempts.into_iter().next()?.outcome {
        Outcome::Answered { greeting, .. } => Some((greeting.name, greeting.client.ip())),
        _ => None,
    }
}

fn until(agent: &Agent, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}\n{}", agent.log_tail());
        thread::sleep(Duration::from_millis(50));
    }
}

/// In both families, over TCP and UDP, the pod of n2 answers at this node port, and sees `client`.
fn until_served(network: &Network, agent: &Agent, node: Ipv4Addr, client: Ipv4Addr) {
    until_answered(network, agent, node, &[Protocol::Tcp, Protocol::Udp], ("there", client));
}

fn until_answered(
    network: &Network,
    agent: &Agent,
    node: Ipv4Addr,
    protocols: &[Protocol],
    (name, client): (&str, Ipv4Addr),
) {
    for v6 in [false, true] {
        for &protocol in protocols {
            let wanted = Some((name.to_owned(), in_family(client, v6)));
            until(agent, &format!("{name} at {node}, {protocol:?}, IPv6 {v6}, sees {client}"), || {
                greeted(network, in_family(node, v6), NODE_PORT, protocol) == wanted
            });
        }
    }
}

#[test]
fn an_address_that_comes_late_and_changes_is_followed_without_a_restart() {
    let network = network();
    let (n1, n2) = (network.node("n1").unwrap(), network.node("n2").unwrap());
    let _there = client::serve(&n2.pod("there").unwrap().place(), "there", PORT).unwrap();
    let manifests = Manifests::create().unwrap();
    manifests.apply("service.yaml", &service("n2", THERE).objects()).unwrap();
    unplug(n1);
    let mut agent = Agent::spawn_nameless(n1, &manifests, &[]).unwrap();
    agent.settle(&manifests).unwrap();
    assert!(agent.log_tail().contains("--node-ip"), "the log names the remedy:\n{}", agent.log_tail());

    plug(n1, N1);
    until_served(&network, &agent, N1, N1);

    let lead = |node: Ipv4Addr| {
        let routes =
            [false, true].map(|v6| format!("route replace {} via {}", in_family(VIP, v6), in_family(node, v6)));
        network.router.ip(&routes).unwrap();
    };
    lead(N1);
    let manner = Manner { timeout: 300, every: 10, ..Manner::of(Protocol::Udp) };
    let mut streams = [false, true].map(|v6| {
        let to = SocketAddr::new(in_family(VIP, v6), 80);
        let mut stream = Stream::start(&outside(&network), to, &manner).unwrap();
        stream.wait_for(PATIENCE, |outcome| outcome.server() == Some("there")).unwrap();
        stream
    });
    unplug(n1);
    for stream in &mut streams {
        stream.wait_for(PATIENCE, |outcome| outcome.server().is_none()).unwrap();
    }
    plug(n1, RENUMBERED);
    lead(RENUMBERED);
    until_served(&network, &agent, RENUMBERED, RENUMBERED);
    for (stream, v6) in streams.iter_mut().zip([false, true]) {
        let seen = in_family(RENUMBERED, v6);
        let moved =
            |outcome: &Outcome| matches!(outcome, Outcome::Answered { greeting, .. } if greeting.client.ip() == seen);
        stream.wait_for(PATIENCE, moved).unwrap_or_else(|error| panic!("datagrams of one socket, {seen}: {error}"));
    }
    agent.terminate().unwrap();
}

/// Packets to a VIP come to a node that has no address at all.
#[test]
fn a_node_without_an_address_refuses_what_it_could_not_be_answered_to_and_counts_it() {
    let network = network();
    let (n1, n2) = (network.node("n1").unwrap(), network.node("n2").unwrap());
    let _there = client::serve(&n2.pod("there").unwrap().place(), "there", PORT).unwrap();
    let manifests = Manifests::create().unwrap();
    manifests.apply("service.yaml", &service("n2", THERE).objects()).unwrap();
    unplug(n1);
    let mac = "02:00:00:00:00:77";
    n1.netns.ip(&[format!("link set uplink address {mac}")]).unwrap();
    let ways = [format!("neighbour replace {N1} lladdr {mac} dev nodes"), format!("route replace {VIP} via {N1}")];
    network.router.ip(&ways).unwrap();
    let mut agent = Agent::spawn_nameless(n1, &manifests, &["--device", "uplink"]).unwrap();
    agent.settle(&manifests).unwrap();
    let to = IpAddr::from(VIP);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let before = n1.count(Verdict::DropNoNodeAddress).unwrap();
        assert_eq!(greeted(&network, to, 80, protocol), None);
        assert!(n1.count(Verdict::DropNoNodeAddress).unwrap() > before, "{protocol:?}");
    }
    plug(n1, N1);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let wanted = Some(("there".to_owned(), N1.into()));
        until(&agent, "the VIP is served", || greeted(&network, to, 80, protocol) == wanted);
    }
    agent.terminate().unwrap();
}

#[test]
fn a_process_of_the_node_on_its_second_address_serves_clients_outside_and_sees_them() {
    let network = network();
    let n1 = network.node("n1").unwrap();
    n1.netns.ip(&second_device()).unwrap();
    let _host = client::serve(&n1.place(), "host", PORT).unwrap();
    let manifests = Manifests::create().unwrap();
    manifests.apply("service.yaml", &service("n1", SECOND).objects()).unwrap();
    let mut agent = Agent::spawn_nameless(n1, &manifests, &[]).unwrap();
    agent.settle(&manifests).unwrap();
    // Whoever answers datagrams from a socket that is bound to no address has the route's as its source, not this one.
    until_answered(&network, &agent, N1, &[Protocol::Tcp], ("host", OUTSIDE));
    assert_eq!(n1.count(Verdict::DropNoRoute).unwrap(), 0);
    agent.terminate().unwrap();
}

/// The rest of the cluster knows the node by its InternalIP, and may let nobody else in.
#[test]
fn the_internal_ip_goes_before_the_default_routes_address_while_the_node_has_it() {
    let network = network();
    let (n1, n2) = (network.node("n1").unwrap(), network.node("n2").unwrap());
    n1.netns.ip(&second_device()).unwrap();
    n2.netns
        .ip(&[false, true].map(|v6| format!("route add {} via {}", in_family(SECOND, v6), in_family(N1, v6))))
        .unwrap();
    let _there = client::serve(&n2.pod("there").unwrap().place(), "there", PORT).unwrap();
    let runtime = Runtime::new().unwrap();
    let entered = runtime.enter();
    let server = ApiServerDouble::start_on(n1);
    drop(entered);
    let object = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "status": {"addresses": [
            {"type": "InternalIP", "address": SECOND}, {"type": "InternalIP", "address": twin(SECOND)},
        ]},
    });
    service("n2", THERE).objects().into_iter().chain([object]).for_each(|object| server.apply(object));
    let beside = Manifests::create().unwrap();
    let agent = Agent::spawn_nameless(n1, &beside, &["--source", "kube", "--kube-api", &server.url()]).unwrap();
    until_served(&network, &agent, N1, SECOND);
    // No route leads out by it, but whoever the cluster sends to the node comes by it.
    let attached = |line: &str| ["device attached", "\"second\"", "Uplink"].iter().all(|part| line.contains(part));
    until(&agent, "its device is an uplink", || agent.log_tail().lines().any(attached));
    n1.netns.ip(&["link del second"]).unwrap();
    until_served(&network, &agent, N1, N1);
    agent.terminate().unwrap();
}

/// The maps of an agent that knew its address by heart lack those that say it: no client notices the change.
#[test]
fn an_agent_that_takes_over_from_one_without_these_maps_refuses_nobody() {
    let network = network();
    let (n1, n2) = (network.node("n1").unwrap(), network.node("n2").unwrap());
    let _there = client::serve(&n2.pod("there").unwrap().place(), "there", PORT).unwrap();
    let manifests = Manifests::create().unwrap();
    manifests.apply("service.yaml", &service("n2", THERE).objects()).unwrap();
    let mut agent = Agent::spawn_nameless(n1, &manifests, &[]).unwrap();
    agent.settle(&manifests).unwrap();
    agent.terminate().unwrap();
    let to = [false, true].map(|v6| SocketAddr::new(in_family(N1, v6), NODE_PORT));
    let manner = Manner { timeout: 5000, every: 5, ..Manner::of(Protocol::Tcp) };
    let load = Load::start(&outside(&network), &to, 2, &manner).unwrap();
    for name in ["NODE_ADDRESS", "NODE_ADDRESSES_V4", "NODE_ADDRESSES_V6"] {
        fs::remove_file(n1.bpffs.path.join("maps").join(name)).unwrap();
    }
    let mut agent = Agent::spawn_nameless(n1, &manifests, &[]).unwrap();
    agent.settle(&manifests).unwrap();
    let report = load.stop().unwrap();
    assert!(report.failed == 0 && report.total() > 100, "{report:?}");
    assert_eq!(n1.count(Verdict::DropNoNodeAddress).unwrap(), 0);
    agent.terminate().unwrap();
}

fn second_device() -> [String; 5] {
    [
        "link add second type veth peer name nobody".to_owned(),
        "link set nobody up".to_owned(),
        "link set second up".to_owned(),
        format!("address add {SECOND}/24 dev second"),
        format!("address add {}/64 dev second nodad", twin(SECOND)),
    ]
}
