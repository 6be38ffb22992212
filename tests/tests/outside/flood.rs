//! Floods that come in at the uplink, from addresses that are not their sender's, while clients talk: who talks already
//! notices nothing, and whom there is no room for is refused, and counted.

use std::net::{Ipv4Addr, SocketAddr};

use aya::{
    Pod,
    maps::{HashMap, Map, MapData},
};
use millrace_agent::datapath::Pins;
use millrace_common::{
    flow::{Flow, Tuple, timeout},
    verdict::Verdict,
};
use millrace_tests::{
    client::{self, Stream},
    packet::{Flags, IcmpError, Packet},
    probe::{Manner, Outcome, Protocol},
    told,
    wire::Wire,
};

use crate::world::{
    Backend, CLUSTER_IP, N1, PATIENCE, UPLINK_MAC, VIP, World, at, node_port, servers, service, worlds_with,
};

const PORT: u16 = 8070;
/// First of the ports that hide clients.
const HIDING: u16 = 20_000;
/// Room for 64 flows in each family, and for 32 at a time to one backend in one protocol.
const SMALL: &[&str] = &["--max-flows", "128", "--snat-ports", "20000-20031"];
const BACKENDS: [Backend; 3] = [Backend::There, Backend::OtherHost, Backend::Here];
/// Of each kind of packet, to each frontend.
const FLOOD: u16 = 500;

/// A different sender each time, none of which exists.
fn nobody(number: u16, v6: bool) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    at(Ipv4Addr::new(198, 18, high, low), 1024 + number, v6)
}

/// Everything that a stranger can send without being answered.
fn flood(link: &Wire, v6: bool) {
    let send = |mut packet: Packet| {
        packet.destination_mac = UPLINK_MAC;
        link.send(&packet.frame()).unwrap();
    };
    for to in [node_port(v6), at(VIP, 80, v6)] {
        for number in 0..FLOOD {
            let from = nobody(number, v6);
            send(Packet::tcp(from, to, Flags::SYN));
            send(Packet::udp(from, to, &number.to_be_bytes()));
            // It is left to the node, which may send it back to the router.
            send(Packet::tcp(nobody(number + FLOOD, v6), to, Flags::ACK).payload(b"of no connection").ttl(3));
            // Without the first.
            for to in [to, at(CLUSTER_IP, 80, v6)] {
                let mut whole = Packet::udp(from, to, &[1; 64]).ttl(3);
                whole.destination_mac = UPLINK_MAC;
                link.send(&whole.fragments(number.into(), 32)[1]).unwrap();
            }
            // About what no backend was ever sent by this node: from a port that hides nobody, and from one that may.
            for port in [HIDING + 1000, HIDING + number % 32] {
                let quoted = Packet::udp(at(N1, port, v6), nobody(number + 1, v6), b"never sent");
                send(Packet::icmp_error(from, IcmpError::PortUnreachable, &quoted, 48));
            }
        }
    }
}

/// A flow that begins before the flood and goes on through it.
fn long(world: &World, protocol: Protocol, v6: bool) -> Stream {
    let manner = Manner { timeout: 5000, every: 5, ..Manner::of(protocol) };
    let mut stream = Stream::start(&world.outside(), node_port(v6), &manner).unwrap();
    stream.wait_for(PATIENCE, |outcome| outcome.server().is_some()).unwrap();
    stream
}

fn count(world: &World, verdict: Verdict) -> u64 {
    world.network.node("n1").unwrap().count(verdict).unwrap()
}

fn ask(world: &World, protocol: Protocol, timeout: u64) -> Vec<Outcome> {
    let manner = Manner { timeout, ..Manner::of(protocol) };
    let attempts = client::connect(&world.outside(), &[node_port(false), node_port(true)], 2, &manner).unwrap();
    attempts.into_iter().map(|attempt| attempt.outcome).collect()
}

/// New clients, while the tables are full: none is led astray, and of each it is counted whether its flow has begun. (That
/// a backend is too busy to answer is its own business.)
fn newcomers_are_served_or_counted(world: &World) {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let decided = || {
            [Verdict::PacketNewFlow, Verdict::DropTableFull, Verdict::DropNoPort]
                .map(|verdict| count(world, verdict))
                .iter()
                .sum::<u64>()
        };
        let before = decided();
        let outcomes = ask(world, protocol, 500);
        let understood = |outcome: &Outcome| outcome.server().is_some() || *outcome == Outcome::Silence;
        assert!(outcomes.iter().all(understood), "{outcomes:?}");
        assert!(decided() >= before + 2, "{outcomes:?}");
    }
}

/// Lets a minute pass for every flow: those that live are seen again at once.
fn age<A: Pod + Copy>(world: &World, map: &str)
where
    Tuple<A>: Pod,
    Flow<A>: Pod,
{
    let pins = Pins::at(&world.network.node("n1").unwrap().bpffs.path);
    let map = Map::from_map_data(MapData::from_pin(pins.map(map)).unwrap()).unwrap();
    let mut map = HashMap::<_, Tuple<A>, Flow<A>>::try_from(map).unwrap();
    let entries: Vec<_> = map.iter().map(Result::unwrap).collect();
    for (key, mut flow) in entries {
        flow.last_seen = flow.last_seen.wrapping_sub(timeout::TCP_OPENING + 5);
        map.insert(key, flow, 0).unwrap();
    }
}

/// What the metrics say of drops, an operator reads.
fn assert_shown(world: &World, verdict: Verdict) {
    let line = format!("millrace_verdicts_total{{verdict=\"{}\"}} ", verdict.name());
    let metrics = told::metrics(world.network.node("n1").unwrap());
    let shown = metrics.lines().any(|found| found.strip_prefix(&line).is_some_and(|count| count != "0"));
    assert!(shown, "no {line} in\n{metrics}");
}

/// A flood leaves those alone who talk already, and gives its room back within about a minute: nobody has taken up what it
/// began.
#[test]
fn a_flood_from_outside_is_counted_and_costs_nobody_a_flow() {
    for mut world in worlds_with(SMALL) {
        let _servers = servers(&world, &BACKENDS, PORT);
        // What is sent to those who never asked is lost, and not sent again, which would begin its flow anew.
        world.network.router.ip(&["route add blackhole 0.0.0.0/0", "route add blackhole ::/0"]).unwrap();
        for backend in BACKENDS {
            world.netns(backend).sysctl(&[("ipv4/tcp_synack_retries", "0")]).unwrap();
        }
        let link = world.uplink();
        world.serve(&service(&BACKENDS, PORT));
        let streams: Vec<_> = [Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Udp]
            .into_iter()
            .flat_map(|protocol| [false, true].map(|v6| (protocol, long(&world, protocol, v6))))
            .collect();
        for _ in 0..2 {
            for v6 in [false, true] {
                flood(&link, v6);
            }
            newcomers_are_served_or_counted(&world);
        }
        for verdict in [Verdict::DropTableFull, Verdict::DropNoPort, Verdict::DropFragmentWithoutHead] {
            assert_shown(&world, verdict);
        }
        for [four, six] in [["CT_V4", "CT_V6"], ["CT_NEW_V4", "CT_NEW_V6"]] {
            age::<[u32; 1]>(&world, four);
            age::<[u32; 4]>(&world, six);
        }
        // An agent begins with a sweep.
        world.agent = None;
        world.start();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let outcomes = ask(&world, protocol, 5000);
            assert!(outcomes.iter().all(|outcome| outcome.server().is_some()), "after the flood: {outcomes:?}");
        }
        for (protocol, stream) in streams {
            let lines = stream.stop().unwrap();
            // By the same backend, from the same port of the node. Where the wire is flooded, a datagram may be lost.
            let lost = |outcome: &Outcome| protocol == Protocol::Udp && *outcome == Outcome::Silence;
            let outcomes: Vec<_> = lines.iter().map(|line| &line.outcome).filter(|outcome| !lost(outcome)).collect();
            let same = outcomes.iter().all(|outcome| *outcome == outcomes[0]);
            assert!(same && outcomes[0].server().is_some(), "{protocol:?} did not survive: {lines:?}");
        }
        world.assert_served_as_entered();
    }
}
