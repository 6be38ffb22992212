//! An address that is assigned on the node is the node's, whatever a Service says of it: NodeLocal DNSCache answers at the
//! ClusterIP of kube-dns, and nobody takes a node's own address over by naming it an external IP. But the addresses of
//! kube-proxy's device are services'.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use millrace_tests::{
    address::{in_family, twin},
    agent::Agent,
    client,
    listen::listen,
    manifests::{Endpoint, Manifests, Port, Service},
    network::Network,
    node::Node,
    place::Place,
    probe::{Manner, Protocol},
    told::metrics,
};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 14, 10);
const WEB: Ipv4Addr = Ipv4Addr::new(10, 96, 14, 20);
/// An external IP that no node has.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 14);
const PATIENCE: Duration = Duration::from_secs(60);

/// A Service of both families whose endpoint is the pod `server`.
fn service(name: &str, address: Ipv4Addr, number: u16, external: &[Ipv4Addr]) -> Service {
    let port = |protocol: &str| Port {
        name: protocol.to_lowercase(),
        protocol: protocol.into(),
        port: number,
        target: 8080,
        node_port: 0,
    };
    let endpoint = |address| Endpoint { address, node: "n1".into(), terminating: false };
    Service {
        name: name.into(),
        cluster_ips: vec![address.into(), twin(address).into()],
        ports: ["TCP", "UDP"].map(port).into(),
        endpoints: [IpAddr::from(SERVER), twin(SERVER).into()].map(endpoint).into(),
        external_ips: external.iter().flat_map(|ip| [IpAddr::from(*ip), twin(*ip).into()]).collect(),
        ..Service::default()
    }
}

/// The one who answers; `None`: nobody does.
fn answering(from: &Place, to: SocketAddr, protocol: Protocol) -> Option<String> {
    let mut attempts = client::connect(from, &[to], 1, &Manner::of(protocol)).unwrap();
    attempts.remove(0).outcome.server().map(str::to_owned)
}

/// Asks a pod, the node and the outside for everything at `address`; each must be answered by `name`.
fn assert_answered(network: &Network, address: Ipv4Addr, port: u16, name: &str) {
    let node = network.node("n1").unwrap();
    let outside = Place { netns: network.outside.handle(), ..node.place() };
    let places = [("a pod", node.pod("client").unwrap().place()), ("the node", node.place()), ("outside", outside)];
    for (who, place) in places {
        for (v6, protocol) in
            [(false, Protocol::Tcp), (false, Protocol::Udp), (true, Protocol::Tcp), (true, Protocol::Udp)]
        {
            let to = SocketAddr::new(in_family(address, v6), port);
            assert_eq!(answering(&place, to, protocol).as_deref(), Some(name), "{who}, {protocol:?} to {to}");
        }
    }
}

/// Gives the node these addresses, of both families, on a device of this name. (kube-proxy's and NodeLocal DNSCache's
/// are dummies, which not every kernel has; their names count.)
fn add_device(node: &Node, name: &str, addresses: &[Ipv4Addr]) {
    let mut commands = vec![format!("link add {name} type bridge"), format!("link set {name} up")];
    for address in addresses {
        commands.push(format!("address add {address}/32 dev {name}"));
        commands.push(format!("address add {}/128 dev {name} nodad", twin(*address)));
    }
    node.netns.ip(&commands).unwrap();
    for address in addresses {
        node.netns.wait_for_address(twin(*address)).unwrap();
    }
}

fn until(agent: &Agent, what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}\n{}", agent.log_tail());
        thread::sleep(Duration::from_millis(50));
    }
}

fn network() -> (Network, client::Running) {
    let network = Network::of_one_node(&[("server", SERVER), ("client", CLIENT)]).unwrap();
    // Who answers outside asks for service addresses by way of the node.
    network
        .router
        .ip(&[
            "route add 10.96.0.0/16 via 10.0.0.1".to_owned(),
            format!("route add fd00:10:96::/48 via {}", twin(Ipv4Addr::new(10, 0, 0, 1))),
        ])
        .unwrap();
    let serving = client::serve(&network.node("n1").unwrap().pod("server").unwrap().place(), "server", 8080).unwrap();
    (network, serving)
}

#[test]
fn node_local_dnscache_answers_at_the_address_of_kube_dns_for_as_long_as_it_has_it() {
    let (network, _serving) = network();
    let node = network.node("n1").unwrap();
    add_device(node, "nodelocaldns", &[Ipv4Addr::new(169, 254, 20, 10), DNS]);
    for v6 in [false, true] {
        listen(&node.netns, "cache", SocketAddr::new(in_family(DNS, v6), 53)).unwrap();
    }
    let manifests = Manifests::create().unwrap();
    for (name, address) in [("kube-dns", DNS), ("web", WEB)] {
        manifests.apply(&format!("{name}.yaml"), &service(name, address, 53, &[]).objects()).unwrap();
    }
    let agent = Agent::start(node, &manifests, &[]).unwrap();
    assert_answered(&network, DNS, 53, "cache");
    assert_answered(&network, WEB, 53, "server");
    let log = agent.log_tail();
    assert!(log.contains("assigned on this node") && log.contains(&DNS.to_string()), "{log}");

    node.netns.ip(&["link del nodelocaldns"]).unwrap();
    let client = node.pod("client").unwrap().place();
    let dns = SocketAddr::new(DNS.into(), 53);
    until(&agent, "the Service has its address back", || {
        answering(&client, dns, Protocol::Tcp).as_deref() == Some("server")
    });
    assert_answered(&network, DNS, 53, "server");
}

#[test]
fn a_nodes_own_address_as_an_external_ip_is_never_taken_over() {
    let (network, _serving) = network();
    let node = network.node("n1").unwrap();
    for v6 in [false, true] {
        listen(&node.netns, "sshd", SocketAddr::new(node.address(v6), 2222)).unwrap();
    }
    let manifests = Manifests::create().unwrap();
    manifests.apply("greedy.yaml", &service("greedy", WEB, 2222, &[node.v4, ELSEWHERE]).objects()).unwrap();
    let agent = Agent::start(node, &manifests, &[]).unwrap();
    assert_answered(&network, node.v4, 2222, "sshd");
    // The rest of the Service is served, its other external IP included.
    assert_answered(&network, WEB, 2222, "server");
    for v6 in [false, true] {
        let to = SocketAddr::new(in_family(ELSEWHERE, v6), 2222);
        let client = node.pod("client").unwrap().place();
        assert_eq!(answering(&client, to, Protocol::Tcp).as_deref(), Some("server"), "{to}\n{}", agent.log_tail());
    }

    // Nor one that the node gets later.
    let later = Ipv4Addr::new(10, 0, 0, 77);
    manifests.apply("greedy.yaml", &service("greedy", WEB, 2222, &[later]).objects()).unwrap();
    let client = node.pod("client").unwrap().place();
    let to = SocketAddr::new(later.into(), 2222);
    until(&agent, "it is an external IP", || answering(&client, to, Protocol::Tcp).as_deref() == Some("server"));
    node.netns.ip(&[format!("address add {later}/24 dev uplink")]).unwrap();
    listen(&node.netns, "sshd", to).unwrap();
    until(&agent, "it is the node's", || answering(&client, to, Protocol::Tcp).as_deref() == Some("sshd"));
}

#[test]
fn the_addresses_of_kube_proxys_device_are_served_and_have_no_node_ports() {
    let (network, _serving) = network();
    let node = network.node("n1").unwrap();
    add_device(node, "kube-ipvs0", &[DNS, WEB]);
    let manifests = Manifests::create().unwrap();
    let mut web = service("web", WEB, 53, &[]);
    web.ports[0].node_port = 30_014;
    manifests.apply("web.yaml", &web.objects()).unwrap();
    manifests.apply("kube-dns.yaml", &service("kube-dns", DNS, 53, &[]).objects()).unwrap();
    let agent = Agent::start(node, &manifests, &[]).unwrap();
    assert_answered(&network, WEB, 53, "server");
    assert_answered(&network, DNS, 53, "server");
    let services = agent.ask(&["services"]).unwrap();
    assert!(services.contains("10.0.0.1:30014"), "{services}");
    assert!(!services.contains(&format!("{DNS}:30014")) && !services.contains(&format!("{WEB}:30014")), "{services}");
    let log = agent.log_tail();
    assert_eq!(log.matches("are services', not the node's").count(), 1, "{log}");
    assert!(!log.contains("assigned on this node"), "{log}");
    // kube-proxy goes on adding to it, until it is removed.
    node.netns.ip(&["address add 10.96.14.30/32 dev kube-ipvs0", "link del kube-ipvs0"]).unwrap();
    assert_answered(&network, WEB, 53, "server");
}

/// So many addresses come or go at a time.
const MANY: usize = 2000;

#[test]
fn thousands_of_addresses_that_come_and_go_are_a_few_rounds() {
    let (network, _serving) = network();
    let node = network.node("n1").unwrap();
    let manifests = Manifests::create().unwrap();
    let mut web = service("web", WEB, 53, &[]);
    web.ports[0].node_port = 30_014;
    manifests.apply("web.yaml", &web.objects()).unwrap();
    let agent = Agent::start(node, &manifests, &[]).unwrap();
    let first = Ipv4Addr::new(172, 20, 0, 1);
    let addresses = (0..MANY).map(|i| Ipv4Addr::from(first.to_bits() + i as u32));
    let commands: Vec<_> = ["link add many type bridge".to_owned(), "link set many up".to_owned()]
        .into_iter()
        .chain(addresses.map(|address| format!("address add {address}/32 dev many")))
        .collect();
    let node_ports = || agent.ask(&["services"]).unwrap().matches(":30014").count();
    let before = (node_ports(), rounds(node));
    node.netns.ip(&commands).unwrap();
    until(&agent, "all have the node port", || node_ports() >= before.0 + MANY);
    let between = rounds(node);
    node.netns.ip(&["link del many"]).unwrap();
    until(&agent, "none of them has it", || node_ports() == before.0);
    let after = rounds(node);
    // One a second while they come, and a grace period's after each.
    println!("{MANY} addresses came in {} rounds and went in {}", between - before.1, after - between);
    assert!(between - before.1 < 100 && after - between < 20, "{} {between} {after}", before.1);
}

/// How often the maps were written.
fn rounds(node: &Node) -> u64 {
    let text = metrics(node);
    let count = text.lines().find_map(|line| line.strip_prefix("kubeproxy_sync_proxy_rules_duration_seconds_count "));
    count.unwrap().parse().unwrap()
}
