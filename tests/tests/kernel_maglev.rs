//! A Service with the annotation `millrace.io/algorithm: maglev`, from its manifest to the pod that answers.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use millrace_agent::lb::table;
use millrace_common::{
    address::{Address, Port, addr4, addr6, protocol},
    flow::Tuple,
    maglev::{hash_of_flow, place},
};
use millrace_tests::{
    address::twin,
    agent::Agent,
    client,
    manifests::{self, Endpoint, Manifests, Service},
    network::{Network, NodeSpec},
    probe::Greeting,
};
use serde_json::{Value, json};

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 3, 10);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 40);
const SERVERS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 168, 1, 43), Ipv4Addr::new(192, 168, 1, 41), Ipv4Addr::new(192, 168, 1, 42)];

fn expected(from: SocketAddr, to: SocketAddr) -> IpAddr {
    let hash = match (from.ip(), to.ip()) {
        (IpAddr::V4(s), IpAddr::V4(d)) => hash_of_flow(&tuple(addr4(s), addr4(d), from, to)),
        (IpAddr::V6(s), IpAddr::V6(d)) => hash_of_flow(&tuple(addr6(s), addr6(d), from, to)),
        _ => panic!("{from} and {to} are of two families"),
    };
    let address = |v4: Ipv4Addr| if to.is_ipv6() { twin(v4).into() } else { IpAddr::from(v4) };
    let mut endpoints = SERVERS.map(|v4| SocketAddr::new(address(v4), 8080));
    endpoints.sort_unstable();
    let table = table(&endpoints);
    endpoints[usize::from(table[place(hash, u32::try_from(table.len()).unwrap()) as usize])].ip()
}

fn tuple<A: Address>(source: A, destination: A, from: SocketAddr, to: SocketAddr) -> Tuple<A> {
    let (source_port, destination_port) = (Port::new(from.port()), Port::new(to.port()));
    Tuple { source, destination, source_port, destination_port, protocol: protocol::UDP, ..Tuple::default() }
}

/// The name of the server that answers a datagram from this port.
fn answered_from(from: SocketAddr, to: SocketAddr) -> io::Result<String> {
    let socket = UdpSocket::bind(from)?;
    // Emulated machines run this too.
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    socket.send_to(b"question\n", to)?;
    let mut buffer = [0; 2048];
    let (length, peer) = socket.recv_from(&mut buffer)?;
    assert_eq!(peer, to, "the answer comes from the service");
    let greeting: Greeting = serde_json::from_slice(&buffer[..length])?;
    Ok(greeting.name)
}

/// Which pod answers a client's port follows from the addresses alone, so that every node would have sent it there; and
/// an operator sees how it was chosen.
#[test]
fn a_flow_has_one_endpoint_wherever_it_is_chosen() {
    let mut network = Network::create(&[NodeSpec { name: "n1", zone: "a", number: 1 }]).unwrap();
    let n1 = network.node_mut("n1").unwrap();
    n1.add_pod("client", CLIENT).unwrap();
    for server in SERVERS {
        n1.add_pod(&format!("server-{}", server.octets()[3]), server).unwrap();
    }
    let n1 = network.node("n1").unwrap();
    let mut names = BTreeMap::new();
    let serve = |server: Ipv4Addr| {
        let name = format!("server-{}", server.octets()[3]);
        names.extend([IpAddr::from(server), twin(server).into()].map(|ip| (ip, name.clone())));
        client::serve(&n1.pod(&name).unwrap().place(), &name, 8080).unwrap()
    };
    let _serving = SERVERS.map(serve);
    let endpoint = |address| Endpoint { address, node: "n1".into(), terminating: false };
    let service = Service {
        name: "steady".into(),
        cluster_ips: vec![CLUSTER_IP.into(), twin(CLUSTER_IP).into()],
        ports: vec![manifests::Port {
            name: "udp".into(),
            protocol: "UDP".into(),
            port: 80,
            target: 8080,
            node_port: 0,
        }],
        endpoints: SERVERS.iter().flat_map(|ip| [IpAddr::from(*ip), twin(*ip).into()]).map(endpoint).collect(),
        ..Service::default()
    };
    let mut objects = service.objects();
    objects[0]["metadata"]["annotations"] = json!({"millrace.io/algorithm": "maglev"});
    let manifests = Manifests::create().unwrap();
    manifests.apply("service.yaml", &objects).unwrap();
    let agent = Agent::start(n1, &manifests, &[]).unwrap();
    let shown: Vec<Value> = serde_json::from_str(&agent.ask(&["services"]).unwrap()).unwrap();
    let steady = shown.iter().find(|service| service["name"] == "default/steady:udp/UDP/v4").unwrap();
    assert_eq!(steady["algorithm"], "maglev");

    let client = n1.pod("client").unwrap();
    let mut met = BTreeSet::new();
    for v6 in [false, true] {
        let ip = |v4: Ipv4Addr| if v6 { twin(v4).into() } else { IpAddr::from(v4) };
        let to = SocketAddr::new(ip(CLUSTER_IP), 80);
        for port in 46_000..46_020 {
            let from = SocketAddr::new(ip(CLIENT), port);
            let name = client.netns.run(|| answered_from(from, to)).unwrap().unwrap();
            assert_eq!(Some(&name), names.get(&expected(from, to)), "{from}");
            met.insert(name);
        }
    }
    assert_eq!(met.len(), SERVERS.len(), "{met:?}");
}
