//! UDP through the socket hooks: calls that name an address with each datagram, and calls that name it once. Of the host,
//! and of pods where `--socket-lb-udp` says so.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use millrace_common::verdict::Verdict;
use millrace_tests::{
    address::twin,
    agent::Agent,
    client::{self, Stream},
    manifests::{Endpoint, Manifests, Port, Service},
    network::{Network, NodeSpec},
    node::Node,
    place::Place,
    probe::{Manner, Outcome, Protocol},
};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 8, 10);
const SERVERS: [(&str, Ipv4Addr); 2] =
    [("one", Ipv4Addr::new(192, 168, 1, 11)), ("two", Ipv4Addr::new(192, 168, 1, 12))];
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 13);
const PATIENCE: Duration = Duration::from_secs(10);

fn service(servers: &[(&str, Ipv4Addr)]) -> Service {
    let addresses = servers.iter().flat_map(|(_, v4)| [IpAddr::from(*v4), twin(*v4).into()]);
    Service {
        name: "datagrams".into(),
        cluster_ips: vec![VIP.into(), twin(VIP).into()],
        ports: vec![Port { name: "udp".into(), protocol: "UDP".into(), port: 53, target: 8080, node_port: 0 }],
        endpoints: addresses.map(|address| Endpoint { address, node: "n1".into(), terminating: false }).collect(),
        ..Service::default()
    }
}

/// As an application names it: IPv4, IPv6, and IPv4 from a socket of IPv6.
fn named() -> [SocketAddr; 3] {
    [IpAddr::from(VIP), twin(VIP).into(), VIP.to_ipv6_mapped().into()].map(|ip| SocketAddr::new(ip, 53))
}

/// The sender of every answer is the service, as the application named it, whoever it really is; and sockets are spread.
fn answers_come_from_the_service(node: &Node, place: &Place) {
    for protocol in [Protocol::Udp, Protocol::UdpUnconnected] {
        for to in named() {
            let before =
                [Verdict::SocketTranslated, Verdict::SocketReversed].map(|verdict| node.count(verdict).unwrap());
            let attempts = client::connect(place, &[to], 30, &Manner::of(protocol)).unwrap();
            for attempt in &attempts {
                assert!(
                    matches!(attempt.outcome, Outcome::Answered { peer, .. } if peer == to),
                    "{protocol:?}: {attempt:?}"
                );
            }
            for (server, _) in SERVERS {
                let met = attempts.iter().any(|attempt| attempt.outcome.server() == Some(server));
                assert!(met, "{protocol:?} {to}: 30 sockets never met {server}");
            }
            let [translated, reversed] = [Verdict::SocketTranslated, Verdict::SocketReversed];
            assert!(
                node.count(translated).unwrap() >= before[0] + 30,
                "{protocol:?} {to} was not translated in the hook"
            );
            assert!(
                node.count(reversed).unwrap() >= before[1] + 30,
                "{protocol:?} {to} was not given its name in the hook"
            );
        }
    }
}

/// One socket stays with its server while that one serves, and goes to the other when it no longer does.
fn a_socket_keeps_its_server_while_it_serves(manifests: &Manifests, place: &Place) {
    for to in named() {
        manifests.apply("service.yaml", &service(&SERVERS).objects()).unwrap();
        let manner = Manner { protocol: Protocol::UdpUnconnected, timeout: 1000, every: 5 };
        let mut stream = Stream::start(place, to, &manner).unwrap();
        stream.wait_for(PATIENCE, |outcome| outcome.server().is_some()).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        let said = stream.stop().unwrap();
        let [first, .., last] = &said[..] else { unreachable!("a stream says how it ended: {said:?}") };
        assert_eq!(first.outcome, last.outcome, "{to}: {said:?}");
        assert!(last.exchanges > 5 && said.len() == 2, "{to}: {said:?}");

        let mut stream = Stream::start(place, to, &manner).unwrap();
        stream.wait_for(PATIENCE, |outcome| outcome.server().is_some()).unwrap();
        let mut server = None;
        for (name, _) in SERVERS {
            if stream.wait_for(Duration::from_millis(300), |outcome| outcome.server() == Some(name)).is_ok() {
                server = Some(name);
                break;
            }
        }
        let server = server.unwrap();
        let left: Vec<_> = SERVERS.into_iter().filter(|(name, _)| *name != server).collect();
        manifests.apply("service.yaml", &service(&left).objects()).unwrap();
        stream.wait_for(PATIENCE, |outcome| outcome.server() == Some(left[0].0)).unwrap();
        stream.stop().unwrap();
    }
}

#[test]
fn datagrams_of_the_host_and_of_pods_are_translated_in_their_calls() {
    let mut network = Network::create(&[NodeSpec { name: "n1", zone: "a", number: 1 }]).unwrap();
    let node = network.node_mut("n1").unwrap();
    for (name, address) in SERVERS.into_iter().chain([("client", CLIENT)]) {
        node.add_pod(name, address).unwrap();
    }
    let node = network.node("n1").unwrap();
    let _serving = SERVERS.map(|(name, _)| client::serve(&node.pod(name).unwrap().place(), name, 8080).unwrap());
    let manifests = Manifests::create().unwrap();
    manifests.apply("service.yaml", &service(&SERVERS).objects()).unwrap();
    let mut agent = Agent::start(node, &manifests, &["--socket-lb-udp", "on"]).unwrap();
    for place in [node.place(), node.pod("client").unwrap().place()] {
        manifests.apply("service.yaml", &service(&SERVERS).objects()).unwrap();
        agent.settle(&manifests).unwrap();
        answers_come_from_the_service(node, &place);
        a_socket_keeps_its_server_while_it_serves(&manifests, &place);
    }
}

/// Two Services with the same server, and the server itself, asked in turn on one socket: an answer comes from whom the
/// socket asked.
#[test]
fn on_one_socket_answers_have_the_name_that_was_asked_whoever_shares_the_server() {
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 96, 8, 11);
    let network = Network::of_one_node(&[("one", SERVERS[0].1)]).unwrap();
    let node = network.node("n1").unwrap();
    let _serving = client::serve(&node.pod("one").unwrap().place(), "one", 8080).unwrap();
    let manifests = Manifests::create().unwrap();
    let one = service(&SERVERS[..1]);
    let other = Service { name: "other".into(), cluster_ips: vec![OTHER.into(), twin(OTHER).into()], ..one.clone() };
    manifests.apply("one.yaml", &one.objects()).unwrap();
    manifests.apply("other.yaml", &other.objects()).unwrap();
    let _agent = Agent::start(node, &manifests, &[]).unwrap();
    let manner = Manner::of(Protocol::UdpOneSocket);
    let at = |v4: Ipv4Addr, port| [(IpAddr::from(v4), port), (twin(v4).into(), port)].map(SocketAddr::from);
    let [vip, other, server] = [at(VIP, 53), at(OTHER, 53), at(SERVERS[0].1, 8080)];
    for family in 0..2 {
        let targets = [vip[family], other[family], vip[family], server[family], other[family], server[family]];
        let attempts = client::connect(&node.place(), &targets, 24, &manner).unwrap();
        assert_eq!(attempts.len(), 24);
        let (mut clients, peers): (Vec<_>, Vec<_>) = attempts
            .iter()
            .map(|attempt| match &attempt.outcome {
                Outcome::Answered { greeting, peer } => (greeting.client, *peer),
                other => unreachable!("{other:?}"),
            })
            .unzip();
        clients.dedup();
        assert_eq!(clients.len(), 1, "one socket: {clients:?}");
        assert_eq!(peers, targets.into_iter().cycle().take(24).collect::<Vec<_>>());
    }
}

/// No endpoint: the call itself is refused, for each kind of call.
#[test]
fn a_call_to_a_service_without_endpoints_is_refused() {
    let network = Network::of_one_node(&[("client", CLIENT)]).unwrap();
    let node = network.node("n1").unwrap();
    let manifests = Manifests::create().unwrap();
    manifests.apply("service.yaml", &service(&[]).objects()).unwrap();
    let _agent = Agent::start(node, &manifests, &["--socket-lb-udp", "on"]).unwrap();
    for place in [node.place(), node.pod("client").unwrap().place()] {
        for protocol in [Protocol::Udp, Protocol::UdpUnconnected] {
            for to in named() {
                let before = node.count(Verdict::SocketRejected).unwrap();
                let attempts = client::connect(&place, &[to], 1, &Manner::of(protocol)).unwrap();
                assert!(attempts.iter().all(|attempt| attempt.outcome == Outcome::Refused), "{protocol:?}");
                assert!(node.count(Verdict::SocketRejected).unwrap() > before, "{protocol:?} {to}");
            }
        }
    }
}
