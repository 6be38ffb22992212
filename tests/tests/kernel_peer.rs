//! Whom a TCP socket is shown as its peer: the frontend that it named, from connect() until it is closed, and nothing
//! of it stays behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use aya::maps::{HashMap, Map, MapData};
use millrace_agent::datapath::Pins;
use millrace_common::{address::map, socket::Connection};
use millrace_tests::{
    address::twin,
    agent::Agent,
    client::{self, Stream},
    manifests::{Endpoint, Manifests, Port, Service},
    network::Network,
    probe::{Manner, Outcome, Protocol},
};

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 2, 10);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const CONNECTIONS: usize = 50;

/// As the frontends of all connections that are remembered.
fn remembered(bpffs: &Path) -> Vec<[u32; 4]> {
    let data = MapData::from_pin(Pins::at(bpffs).map("SOCKETS")).unwrap();
    let sockets = HashMap::<_, u64, Bytes>::try_from(Map::from_map_data(data).unwrap()).unwrap();
    sockets.iter().map(|entry| entry.unwrap().1.0.frontend).collect()
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Bytes(Connection);

// SAFETY: plain words, any of whose bit patterns is a value.
unsafe impl aya::Pod for Bytes {}

#[test]
fn a_connection_shows_the_frontend_while_it_is_open_and_is_forgotten_when_it_is_closed() {
    let network = Network::of_one_node(&[("server", SERVER), ("client", CLIENT)]).unwrap();
    let n1 = network.node("n1").unwrap();
    let (server, client) = (n1.pod("server").unwrap(), n1.pod("client").unwrap());
    let _serving = client::serve(&server.place(), "server", 8080).unwrap();
    let endpoint = |address| Endpoint { address, node: "n1".into(), terminating: false };
    let service = Service {
        name: "named".into(),
        cluster_ips: vec![CLUSTER_IP.into(), twin(CLUSTER_IP).into()],
        ports: vec![Port { name: "tcp".into(), protocol: "TCP".into(), port: 80, target: 8080, node_port: 0 }],
        endpoints: [IpAddr::from(SERVER), twin(SERVER).into()].map(endpoint).into(),
        ..Service::default()
    };
    let manifests = Manifests::create().unwrap();
    manifests.apply("service.yaml", &service.objects()).unwrap();
    let _agent = Agent::start(n1, &manifests, &[]).unwrap();
    let bpffs = &n1.bpffs.path;
    let manner = Manner { protocol: Protocol::Tcp, timeout: 5000, every: 10 };

    for to in [SocketAddr::from((CLUSTER_IP, 80)), SocketAddr::from((twin(CLUSTER_IP), 80))] {
        for attempt in client::connect(&client.place(), &[to], CONNECTIONS, &manner).unwrap() {
            assert!(matches!(attempt.outcome, Outcome::Answered { peer, .. } if peer == to), "{attempt:?}");
        }
    }
    assert_eq!(remembered(bpffs), [[0; 4]; 0], "entries of connections that were closed");

    let mut open = Stream::start(&client.place(), (CLUSTER_IP, 80).into(), &manner).unwrap();
    open.wait_for(Duration::from_secs(10), |outcome| outcome.server() == Some("server")).unwrap();
    assert_eq!(remembered(bpffs), [map([u32::from_ne_bytes(CLUSTER_IP.octets())])], "the one that is open");
    open.stop().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !remembered(bpffs).is_empty() {
        assert!(Instant::now() < deadline, "the connection was closed and is still remembered");
        std::thread::sleep(Duration::from_millis(20));
    }
}
