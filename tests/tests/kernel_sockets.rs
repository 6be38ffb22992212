//! Connections that a socket hook sees and leaves to the packet path, since a socket cannot say who the client is, and cannot
//! be silent.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use millrace_common::verdict::Verdict;
use millrace_tests::{
    address::twin,
    agent::Agent,
    client,
    manifests::{Endpoint, LoadBalancer, Manifests, Port, Service},
    network::Network,
    node::Node,
    place::Place,
    probe::{Attempt, Manner, Outcome, Protocol},
};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// A Service at `10.96.11.NUMBER` with an endpoint on `node`.
fn service(number: u8, node: &str) -> Service {
    let address = Ipv4Addr::new(10, 96, 11, number);
    let endpoint = |address| Endpoint { address, node: node.into(), terminating: false };
    Service {
        name: format!("s{number}"),
        cluster_ips: vec![address.into(), twin(address).into()],
        ports: vec![Port { name: "tcp".into(), protocol: "TCP".into(), port: 80, target: 8080, node_port: 0 }],
        endpoints: [IpAddr::from(SERVER), twin(SERVER).into()].map(endpoint).into(),
        ..Service::default()
    }
}

/// Connects to both families of `v4`; each call has to be left to the packet path (`left`) or translated at once.
fn connect(node: &Node, place: &Place, v4: Ipv4Addr, left: bool) -> Vec<Attempt> {
    let verdicts = [Verdict::SocketLeftToPackets, Verdict::SocketTranslated];
    let mut all = Vec::new();
    for ip in [IpAddr::from(v4), twin(v4).into()] {
        let before = verdicts.map(|verdict| node.count(verdict).unwrap());
        all.extend(client::connect(place, &[SocketAddr::new(ip, 80)], 1, &Manner::of(Protocol::Tcp)).unwrap());
        let [to_packets, translated] = verdicts.map(|verdict| node.count(verdict).unwrap());
        let new = (to_packets - before[0] > 0, translated - before[1] > 0);
        assert_eq!(new, (left, !left), "{ip}: calls left to the packet path, calls translated");
    }
    all
}

fn assert_served(attempts: &[Attempt]) {
    assert!(attempts.iter().all(|attempt| attempt.outcome.server() == Some("server")), "{attempts:?}");
}

#[test]
fn what_a_socket_cannot_decide_is_left_to_packets_and_counted() {
    let network = Network::of_one_node(&[("server", SERVER), ("client", CLIENT)]).unwrap();
    let node = network.node("n1").unwrap();
    let _serving = client::serve(&node.pod("server").unwrap().place(), "server", 8080).unwrap();
    let range = |prefix: &str| LoadBalancer {
        vips: vec![VIP.into(), twin(VIP).into()],
        ip_mode: None,
        source_ranges: vec![format!("{CLIENT}/32"), prefix.to_owned()],
    };
    let client_v6 = format!("{}/128", twin(CLIENT));
    let services = [
        service(1, "n1"),
        Service { affinity: Some(600), ..service(2, "n1") },
        Service { internal_local: true, ..service(3, "n2") },
        Service { load_balancer: Some(range(&client_v6)), ..service(4, "n1") },
    ];
    let manifests = Manifests::create().unwrap();
    manifests.apply("services.yaml", &services.iter().flat_map(Service::objects).collect::<Vec<_>>()).unwrap();
    let _agent = Agent::start(node, &manifests, &[]).unwrap();
    let [plain, affinity, elsewhere, guarded] = [1, 2, 3, 4].map(|number| Ipv4Addr::new(10, 96, 11, number));
    let (pod, host) = (node.pod("client").unwrap().place(), node.place());

    assert_served(&connect(node, &pod, plain, false));
    // Whom it remembers is the client's address, which a pod's socket does not have yet; the host's address is known.
    assert_served(&connect(node, &pod, affinity, true));
    assert_served(&connect(node, &host, affinity, false));
    // The VIP is guarded, the ClusterIP of the same Service is not.
    assert_served(&connect(node, &pod, VIP, true));
    assert_served(&connect(node, &pod, guarded, false));
    // Silence is not a socket's to give, neither a pod's nor the host's.
    for place in [&pod, &host] {
        let dropped = node.count(Verdict::DropNoLocalEndpoint).unwrap();
        let attempts = connect(node, place, elsewhere, true);
        assert!(attempts.iter().all(|attempt| attempt.outcome == Outcome::Silence), "{attempts:?}");
        assert!(node.count(Verdict::DropNoLocalEndpoint).unwrap() > dropped, "{attempts:?}");
    }
}
