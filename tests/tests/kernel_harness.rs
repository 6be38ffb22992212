//! The harness itself, without millrace: pods reach each other and the outside, in both families.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{net::SocketAddr, time::Duration};

use millrace_tests::{
    address::twin,
    client::{self, Load, Stream},
    network::{Network, NodeSpec, OUTSIDE},
    packet::{Flags, Packet},
    probe::{Manner, Outcome, Protocol},
    wire::Wire,
};

const NODES: [NodeSpec<'_>; 2] =
    [NodeSpec { name: "n1", zone: "a", number: 1 }, NodeSpec { name: "n2", zone: "b", number: 2 }];

fn network() -> Network {
    let mut network = Network::create(&NODES).unwrap();
    let n1 = network.node_mut("n1").unwrap();
    n1.add_pod("p1", "192.168.1.11".parse().unwrap()).unwrap();
    n1.add_pod("p1b", "192.168.1.12".parse().unwrap()).unwrap();
    network.node_mut("n2").unwrap().add_pod("p2", "192.168.2.21".parse().unwrap()).unwrap();
    network
}

#[test]
fn pods_talk_to_each_other_with_their_own_addresses() {
    let network = network();
    let (n1, n2) = (network.node("n1").unwrap(), network.node("n2").unwrap());
    let (p1, p1b, p2) = (n1.pod("p1").unwrap(), n1.pod("p1b").unwrap(), n2.pod("p2").unwrap());
    let _servers = [p1, p2].map(|pod| client::serve(&pod.place(), &pod.name, 8080).unwrap());
    for v6 in [false, true] {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::UdpUnconnected] {
            for pod in [p1, p2] {
                let to = SocketAddr::new(pod.address(v6), 8080);
                let attempts = client::connect(&p1b.place(), &[to], 3, &Manner::of(protocol)).unwrap();
                for attempt in attempts {
                    let Outcome::Answered { greeting, peer } = attempt.outcome else { panic!("{attempt:?}") };
                    assert_eq!((greeting.name, greeting.client.ip()), (pod.name.clone(), p1b.address(v6)));
                    assert_eq!(peer, to);
                }
            }
        }
        let to = SocketAddr::new(p1.address(v6), 8080);
        let from_node = client::connect(&n1.place(), &[to], 1, &Manner::of(Protocol::Tcp)).unwrap();
        assert_eq!(from_node[0].outcome.server(), Some("p1"), "{from_node:?}");
        let closed = SocketAddr::new(p1.address(v6), 81);
        let refused = client::connect(&p1b.place(), &[closed], 1, &Manner::of(Protocol::Tcp)).unwrap();
        assert_eq!(refused[0].outcome, Outcome::Refused);
    }
}

#[test]
fn load_and_streams_report_what_they_saw_and_frames_are_seen_on_the_uplink() {
    let network = network();
    let (n1, n2) = (network.node("n1").unwrap(), network.node("n2").unwrap());
    let (p1b, p2) = (n1.pod("p1b").unwrap(), n2.pod("p2").unwrap());
    let server = client::serve(&p2.place(), "p2", 8080).unwrap();
    let to = SocketAddr::new(p2.v6.into(), 8080);

    let load = Load::start(&p1b.place(), &[to], 2, &Manner { every: 1, ..Manner::of(Protocol::Tcp) }).unwrap();
    let mut stream = Stream::start(&p1b.place(), to, &Manner { every: 10, ..Manner::of(Protocol::Tcp) }).unwrap();
    stream.wait_for(Duration::from_secs(20), |outcome| outcome.server() == Some("p2")).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let report = load.stop().unwrap();
    assert!(report.failed == 0 && report.total() > 10, "{report:?}");
    drop(server);
    stream.wait_for(Duration::from_secs(20), |outcome| outcome.server().is_none()).unwrap();

    let uplink = Wire::open(&n1.netns, "uplink").unwrap();
    let pod = Wire::open(&p1b.netns, "eth0").unwrap();
    for (source, destination) in [(p1b.v4.into(), OUTSIDE.into()), (p1b.v6.into(), twin(OUTSIDE).into())] {
        let mut packet = Packet::tcp(SocketAddr::new(source, 4000), SocketAddr::new(destination, 80), Flags::ACK);
        (packet.source_mac, packet.destination_mac) = (p1b.mac, p1b.host_mac);
        pod.send(&packet.frame()).unwrap();
        let seen = uplink.find(Duration::from_secs(1), |seen| seen.destination == packet.destination).unwrap();
        assert_eq!(seen.map(|s| s.source), Some(packet.source));
    }
}
