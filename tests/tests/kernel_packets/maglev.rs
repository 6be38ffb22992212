//! Services whose endpoints are chosen by a lookup table: which endpoint a flow reaches is known beforehand, from the
//! flow and the endpoints alone.

use std::net::SocketAddr;

use millrace_agent::lb::table;
use millrace_common::{
    address::{Address, Port, addr4, addr6, protocol},
    flow::Tuple,
    frontend::FrontendKind,
    maglev::{hash_of_client, hash_of_flow, place},
    service::Attributes,
    verdict::Verdict,
};
use millrace_tests::{packet::Packet, test_run::Action};

use crate::{
    rig::{Cast, Rig, casts, openings},
    uplink,
};

/// The endpoint that every node chooses for a flow.
fn of_flow(endpoints: &[SocketAddr], packet: &Packet, protocol: u8) -> SocketAddr {
    let (from, to) = (packet.source, packet.destination);
    let hash = match (from, to) {
        (SocketAddr::V4(s), SocketAddr::V4(d)) => {
            hash_of_flow(&tuple(addr4(*s.ip()), addr4(*d.ip()), from, to, protocol))
        }
        (SocketAddr::V6(s), SocketAddr::V6(d)) => {
            hash_of_flow(&tuple(addr6(*s.ip()), addr6(*d.ip()), from, to, protocol))
        }
        _ => panic!("{from} and {to} are of two families"),
    };
    by_hash(endpoints, hash)
}

fn of_client(endpoints: &[SocketAddr], client: SocketAddr) -> SocketAddr {
    let hash = match client {
        SocketAddr::V4(client) => hash_of_client(addr4(*client.ip())),
        SocketAddr::V6(client) => hash_of_client(addr6(*client.ip())),
    };
    by_hash(endpoints, hash)
}

fn tuple<A: Address>(source: A, destination: A, from: SocketAddr, to: SocketAddr, protocol: u8) -> Tuple<A> {
    let (source_port, destination_port) = (Port::new(from.port()), Port::new(to.port()));
    Tuple { source, destination, source_port, destination_port, protocol, ..Tuple::default() }
}

fn by_hash(endpoints: &[SocketAddr], hash: u32) -> SocketAddr {
    let mut sorted = endpoints.to_vec();
    sorted.sort_unstable();
    let table = table(&sorted);
    sorted[usize::from(table[place(hash, u32::try_from(table.len()).unwrap()) as usize])]
}

/// Endpoint and id: not in the order of their addresses.
fn endpoints(cast: &Cast) -> [(u32, SocketAddr); 5] {
    let other = |port| SocketAddr::new(cast.two.ip(), port);
    [(9, cast.one), (4, cast.two), (6, other(8081)), (5, other(8082)), (2, other(8083))]
}

fn addresses(endpoints: &[(u32, SocketAddr)]) -> Vec<SocketAddr> {
    endpoints.iter().map(|(_, address)| *address).collect()
}

fn reached(rig: &Rig, packet: &Packet) -> SocketAddr {
    let out = rig.pod_sends(packet);
    assert_eq!(out.action, Action::Next, "{out:?} {:?}", rig.counts());
    out.seen().unwrap().destination
}

/// A pod's connections and datagrams reach the endpoint that the table has for them, and every endpoint is reached.
#[test]
fn a_flow_reaches_the_endpoint_that_its_table_names() {
    for cast in casts() {
        let mut rig = Rig::new();
        let endpoints = endpoints(&cast);
        rig.service(&cast, &endpoints);
        rig.backends_by_table(1, &endpoints);
        let mut met = Vec::new();
        for port in 41_000..41_100 {
            let client = SocketAddr::new(cast.client.ip(), port);
            for (opening, protocol) in openings(client, cast.service).iter().zip([protocol::TCP, protocol::UDP]) {
                let expected = of_flow(&addresses(&endpoints), opening, protocol);
                assert_eq!(reached(&rig, opening), expected, "{opening:?}");
                met.push(expected);
            }
        }
        met.sort_unstable();
        met.dedup();
        assert_eq!(met.len(), endpoints.len(), "200 flows leave no endpoint out");
        assert_eq!((rig.count(Verdict::BugBeyondMap), rig.count(Verdict::BugForeignSlot)), (0, 0));
    }
}

/// An endpoint goes while datagrams flow: those that it had go to others, never to it; of the rest few move when their
/// flows are forgotten and begin anew.
#[test]
fn an_endpoint_that_went_is_never_chosen() {
    for cast in casts() {
        let mut rig = Rig::new();
        let all = endpoints(&cast);
        let (gone, rest) = all.split_first().unwrap();
        rig.service(&cast, &all);
        rig.backends_by_table(1, &all);
        let questions: Vec<Packet> = (42_000..42_100)
            .map(|port| Packet::udp(SocketAddr::new(cast.client.ip(), port), cast.service, b"question"))
            .collect();
        let before: Vec<SocketAddr> = questions.iter().map(|question| reached(&rig, question)).collect();
        rig.backends_by_table(1, rest);
        rig.serving(gone.0, 1, false);
        for (question, before) in questions.iter().zip(before) {
            let after = reached(&rig, question);
            if before == gone.1 {
                assert_eq!(after, of_flow(&addresses(rest), question, protocol::UDP));
            } else {
                assert_eq!(after, before, "the flow's own endpoint still serves");
            }
        }
    }
}

/// With session affinity it is the client that has an endpoint, whatever it names and from whatever port; and the
/// endpoint that it was given before it asked for the table is not taken from it.
#[test]
fn with_affinity_the_client_chooses() {
    for cast in casts() {
        let mut rig = Rig::new();
        let endpoints = endpoints(&cast);
        rig.service(&cast, &endpoints);
        rig.frontend(1, cast.vip, protocol::TCP, FrontendKind::LoadBalancer);
        rig.backends_by_table(1, &endpoints);
        rig.attributes(1, Attributes::new(Attributes::AFFINITY, 10_800));
        for host in [cast.client, cast.stranger] {
            for (port, to) in [(1024, cast.service), (1025, cast.vip), (1026, cast.service)] {
                let [syn, _] = openings(SocketAddr::new(host.ip(), port), to);
                assert_eq!(reached(&rig, &syn), of_client(&addresses(&endpoints), host));
            }
        }
        let remembered = of_client(&addresses(&endpoints), cast.client);
        let (mut fewer, mut others) = (Vec::new(), endpoints.to_vec());
        others.retain(|(_, address)| *address != remembered);
        fewer.extend(endpoints.iter().copied().filter(|(_, address)| *address == remembered));
        fewer.extend(&others[..1]);
        rig.backends_by_table(1, &fewer);
        let [syn, _] = openings(SocketAddr::new(cast.client.ip(), 1027), cast.service);
        assert_eq!(reached(&rig, &syn), remembered);
    }
}

/// Clients that a router spreads over the nodes reach one endpoint by any of them: the choice knows nothing of the node.
#[test]
fn a_client_outside_reaches_the_endpoint_that_the_table_names() {
    let node = uplink::Node::new();
    for cast in uplink::casts() {
        let mut rig = Rig::new();
        uplink::node_port(&mut rig, &cast, &[(1, cast.pod), (2, cast.elsewhere)]);
        rig.backends_by_table(1, &[(1, cast.pod), (2, cast.elsewhere)]);
        rig.attributes(1, Attributes::new(Attributes::EXTERNAL_LOCAL, 0));
        rig.swap_sets(1);
        for port in 50_000..50_040 {
            let client = SocketAddr::new(cast.client.ip(), port);
            for (opening, protocol) in openings(client, cast.node_port).iter().zip([protocol::TCP, protocol::UDP]) {
                let expected = of_flow(&[cast.elsewhere, cast.pod], opening, protocol);
                uplink::assert_sent(&node.gets(&rig, opening), client, expected);
            }
        }
    }
}
