//! Clients outside whose backend is elsewhere, served by XDP: what it sends is what tc would have sent, and whatever is
//! out of the ordinary it leaves to tc as it came.

use std::net::{Ipv4Addr, SocketAddr};

use millrace_common::{service::SetWord, verdict::Verdict};
use millrace_tests::{
    address::twin,
    packet::{Body, Flags, IcmpError, Packet, chunk},
    test_run::{self, Action, Outcome},
};

use crate::{
    random::Random,
    rig::{Rig, answer, openings},
    source_ranges::guarded,
    uplink::{Cast, Node, casts, node_port},
};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0xfe, 1];
const UPLINK_MAC: [u8; 6] = [2, 0, 0, 0, 0xfe, 2];

/// A node that knows its router.
pub(crate) fn acquainted() -> Node {
    let node = Node::new();
    let n1 = &node.network.node("n1").unwrap().netns;
    let neighbour =
        |address: String| format!("neighbour replace {address} lladdr 02:00:00:00:fe:01 dev uplink nud permanent");
    let mac = "link set uplink address 02:00:00:00:fe:02".to_owned();
    n1.ip(&[mac, neighbour(ROUTER.to_string()), neighbour(twin(ROUTER).to_string())]).unwrap();
    node
}

/// What XDP makes of a frame that comes by `device`.
fn meets_frame(node: &Node, rig: &Rig, device: u32, frame: &[u8]) -> Outcome {
    let n1 = node.network.node("n1").unwrap();
    n1.netns.run(|| test_run::run_xdp(rig.xdp(), frame, device).unwrap()).unwrap()
}

fn meets(node: &Node, rig: &Rig, packet: &Packet) -> Outcome {
    meets_frame(node, rig, node.uplink, &packet.frame())
}

/// Out of the uplink again, to the router, with one hop less and checksums that hold.
fn assert_returned(out: &Outcome, source: SocketAddr, destination: SocketAddr) {
    assert_eq!(out.action, Action::Transmit, "{out:?}");
    assert_eq!((&out.frame[..6], &out.frame[6..12]), (ROUTER_MAC.as_slice(), UPLINK_MAC.as_slice()));
    let seen = out.seen().unwrap();
    assert!(seen.checksums_hold(), "{seen:#?}");
    assert_eq!((seen.source, seen.destination, seen.ttl), (source, destination, 63), "{seen:#?}");
}

/// As it came, to tc.
fn assert_left(out: &Outcome, frame: &[u8], what: &str) {
    assert_eq!((out.action, out.frame.as_slice()), (Action::Next, frame), "{what}: {out:?}");
}

/// The address and port that the backend sees.
fn hidden(out: &Outcome, cast: &Cast) -> SocketAddr {
    let seen = out.seen().unwrap().source;
    assert_returned(out, seen, cast.elsewhere);
    assert_eq!(seen.ip(), cast.node_port.ip());
    seen
}

/// A new flow, its answer, and what follows in both directions: the kernel makes no packet of any of them.
#[test]
fn a_flow_to_a_backend_elsewhere_is_served_from_its_first_packet_on() {
    let node = acquainted();
    for cast in casts() {
        let mut rig = Rig::new();
        node_port(&mut rig, &cast, &[(1, cast.elsewhere)]);
        for opening in openings(cast.client, cast.node_port) {
            let seen = hidden(&meets(&node, &rig, &opening), &cast);
            for _ in 0..2 {
                let reply = answer(&opening, cast.elsewhere, seen);
                assert_returned(&meets(&node, &rig, &reply), cast.node_port, cast.client);
            }
            let more = match opening.body {
                Body::Tcp { .. } => Packet::tcp(cast.client, cast.node_port, Flags::ACK),
                _ => opening.clone(),
            };
            assert_returned(&meets(&node, &rig, &more.payload(b"more")), seen, cast.elsewhere);
        }
        let counted = [Verdict::XdpServed, Verdict::PacketNewFlow, Verdict::PacketReversed, Verdict::PacketForwarded];
        assert_eq!(counted.map(|verdict| rig.count(verdict)), [8, 2, 4, 2], "{:?}", rig.counts());
        assert_eq!(rig.count(Verdict::XdpLeft), 0);
    }
}

/// Each packet of a flow meets XDP or tc, by chance: nobody could tell which from what is sent, but for the MACs, which
/// tc leaves to the neighbour table.
#[test]
fn a_flow_changes_between_xdp_and_tc_at_any_packet() {
    let node = acquainted();
    let mut random = Random::new();
    for cast in casts() {
        let mut rig = Rig::new();
        node_port(&mut rig, &cast, &[(1, cast.elsewhere)]);
        for port in 1..60 {
            let client = SocketAddr::new(cast.client.ip(), port);
            for opening in openings(client, cast.node_port) {
                let mut send = |packet: &Packet| {
                    let out = if random.one_in(2) { meets(&node, &rig, packet) } else { node.gets(&rig, packet) };
                    assert!(matches!(out.action, Action::Transmit | Action::Redirect), "{out:?} {:?}", rig.counts());
                    let seen = out.seen().unwrap();
                    assert!(seen.checksums_hold(), "{seen:#?}");
                    (seen.source, seen.destination)
                };
                let (hidden, backend) = send(&opening);
                assert_eq!(backend, cast.elsewhere);
                for _ in 0..6 {
                    let reply = answer(&opening, backend, hidden);
                    assert_eq!(send(&reply), (cast.node_port, client));
                    let more = match opening.body {
                        Body::Tcp { .. } => Packet::tcp(client, cast.node_port, Flags::ACK),
                        _ => opening.clone(),
                    };
                    assert_eq!(send(&more), (hidden, backend));
                }
            }
        }
        let (served, all) = (rig.count(Verdict::XdpServed), 59 * 2 * 13);
        assert!(served > all / 4 && served < all * 3 / 4, "{:?}", rig.counts());
    }
}

/// What is out of the ordinary goes on as it came, and no entry is made for it.
#[test]
fn what_is_not_plain_is_left_to_tc_untouched() {
    let node = acquainted();
    for cast in casts() {
        let mut rig = Rig::new();
        node_port(&mut rig, &cast, &[(1, cast.elsewhere)]);
        let mut frames = Vec::new();
        for opening in openings(cast.client, cast.node_port) {
            frames.push(("in a VLAN", opening.clone().vlan(7).frame()));
            frames.push(("with its last hop", opening.clone().ttl(1).frame()));
            frames.push(("with a checksum left to a device", opening.clone().partial().frame()));
            let mut group = opening.clone();
            group.destination_mac = [0xff; 6];
            frames.push(("to everybody", group.frame()));
            let odd = if cast.client.is_ipv4() {
                opening.clone().ip_options(&[1, 1, 1, 0])
            } else {
                opening.clone().extension_headers()
            };
            frames.push(("with options", odd.frame()));
            let whole = opening.frame();
            frames.extend((0..whole.len()).map(|length| ("cut off", whole[..length].to_vec())).skip(14));
            frames.extend(opening.payload(&[7; 64]).fragments(99, 32).into_iter().map(|frame| ("a fragment", frame)));
        }
        let [syn, datagram] = openings(cast.client, cast.node_port);
        frames.push(("of no known connection", Packet::tcp(cast.client, cast.node_port, Flags::ACK).frame()));
        frames.push(("an error", Packet::icmp_error(cast.router, IcmpError::TimeExceeded, &datagram, 100).frame()));
        for other in openings(cast.client, cast.elsewhere) {
            frames.push(("to nobody's frontend", other.frame()));
        }
        let mut closed = syn;
        closed.destination.set_port(22);
        frames.push(("to a port of the node's own", closed.frame()));
        let association = Packet::sctp(cast.client, cast.node_port, chunk::INIT);
        frames.push(("of SCTP, whose checksum covers all of it", association.frame()));
        for (what, frame) in frames {
            assert_left(&meets_frame(&node, &rig, node.uplink, &frame), &frame, what);
        }
        assert!(rig.counts().is_empty(), "{:?}", rig.counts());
    }
}

/// A backend on this node is tc's business. Which one was chosen stays: where it is says nothing of how often it is.
#[test]
fn a_flow_to_a_backend_here_is_begun_and_goes_on_by_tc() {
    let node = acquainted();
    for cast in casts() {
        let mut rig = Rig::new();
        node_port(&mut rig, &cast, &[(1, cast.pod), (2, cast.elsewhere)]);
        let mut here = 0;
        for port in 1..=200 {
            let client = SocketAddr::new(cast.client.ip(), port);
            let opening = &openings(client, cast.node_port)[usize::from(port) % 2];
            let out = meets(&node, &rig, opening);
            if out.action == Action::Next {
                assert_left(&out, &opening.frame(), "to a pod of this node");
                let seen = node.gets(&rig, opening).seen().unwrap();
                assert_eq!(seen.destination, cast.pod, "tc goes on with the choice");
                here += 1;
            } else {
                hidden(&out, &cast);
            }
        }
        assert!((60..140).contains(&here), "of 200 flows {here} are for the pod on this node");
        assert_eq!((rig.count(Verdict::XdpLeft), rig.count(Verdict::PacketNewFlow)), (here, 200), "{:?}", rig.counts());
    }
}

/// Nobody knows the router yet, or the packet does not fit: tc knows what to do.
#[test]
fn a_way_that_is_not_known_or_too_narrow_is_left_to_tc() {
    for known in [false, true] {
        let node = if known { acquainted() } else { Node::new() };
        for cast in casts() {
            let mut rig = Rig::new();
            node_port(&mut rig, &cast, &[(1, cast.elsewhere)]);
            let large = Packet::udp(cast.client, cast.node_port, &[7; 1600]);
            let packet = if known { large } else { openings(cast.client, cast.node_port)[0].clone() };
            assert_left(&meets(&node, &rig, &packet), &packet.frame(), "no way");
            assert_eq!((rig.count(Verdict::XdpLeft), rig.count(Verdict::XdpServed)), (1, 0));
        }
    }
}

/// Silence costs least before anything is made of a packet; a refusal is an answer, and tc's.
#[test]
fn what_is_to_be_dropped_is_dropped_at_once() {
    let node = acquainted();
    for cast in casts() {
        let mut rig = Rig::new();
        let vip = guarded(&mut rig, &cast);
        for opening in openings(cast.client, vip) {
            assert_eq!(meets(&node, &rig, &opening).action, Action::Drop, "not in the source ranges");
        }
        rig.lets_in(1, cast.client.ip(), if vip.is_ipv4() { 24 } else { 64 });
        for opening in openings(cast.client, vip) {
            hidden(&meets(&node, &rig, &opening), &cast);
        }
        rig.set(1, SetWord::DROP);
        for opening in openings(SocketAddr::new(cast.client.ip(), 7), vip) {
            assert_eq!(meets(&node, &rig, &opening).action, Action::Drop, "no endpoint that the policy may use");
        }
        let counted = [Verdict::DropSourceRange, Verdict::DropNoLocalEndpoint, Verdict::XdpServed];
        assert_eq!(counted.map(|verdict| rig.count(verdict)), [2, 2, 6], "{:?}", rig.counts());
        rig.set(1, SetWord::REJECT);
        for opening in openings(SocketAddr::new(cast.client.ip(), 8), vip) {
            assert_left(&meets(&node, &rig, &opening), &opening.frame(), "refused");
        }
    }
}

/// A backend that refuses: tc undoes the flow, and the client hears of it.
#[test]
fn a_refusal_by_the_backend_is_left_to_tc() {
    let node = acquainted();
    for cast in casts() {
        let mut rig = Rig::new();
        node_port(&mut rig, &cast, &[(1, cast.elsewhere)]);
        let seen = hidden(&meets(&node, &rig, &openings(cast.client, cast.node_port)[0]), &cast);
        let refusal = Packet::tcp(cast.elsewhere, seen, Flags::RST_ACK);
        assert_left(&meets(&node, &rig, &refusal), &refusal.frame(), "refusal");
        let back = node.gets(&rig, &refusal).seen().unwrap();
        assert_eq!((back.source, back.destination), (cast.node_port, cast.client));
    }
}

/// A connection's end is seen, wherever it is seen: its port may be used again, by a new connection of its own.
#[test]
fn a_connection_that_ended_in_xdp_gives_way_to_the_next() {
    let node = acquainted();
    for cast in casts() {
        let mut rig = Rig::new();
        node_port(&mut rig, &cast, &[(1, cast.elsewhere)]);
        let [syn, _] = openings(cast.client, cast.node_port);
        let seen = hidden(&meets(&node, &rig, &syn), &cast);
        assert_returned(&meets(&node, &rig, &answer(&syn, cast.elsewhere, seen)), cast.node_port, cast.client);
        assert_left(&meets(&node, &rig, &syn), &syn.frame(), "a SYN that is sent again");
        let end = Packet::tcp(cast.client, cast.node_port, Flags::FIN_ACK);
        assert_returned(&meets(&node, &rig, &end), seen, cast.elsewhere);
        let end = Packet::tcp(cast.elsewhere, seen, Flags::FIN_ACK);
        assert_returned(&meets(&node, &rig, &end), cast.node_port, cast.client);
        assert_left(&meets(&node, &rig, &syn), &syn.frame(), "a SYN on entries that are there");
        assert_eq!(node.gets(&rig, &syn).action, Action::Redirect);
        assert_eq!(rig.count(Verdict::PacketMoved), 1, "a new flow in the old one's place: {:?}", rig.counts());
    }
}

/// Datagrams without a checksum stay without.
#[test]
fn no_checksum_stays_none() {
    let node = acquainted();
    let cast = casts()[0];
    let mut rig = Rig::new();
    node_port(&mut rig, &cast, &[(1, cast.elsewhere)]);
    let question = Packet::udp(cast.client, cast.node_port, b"question").without_checksum();
    let seen = hidden(&meets(&node, &rig, &question), &cast);
    let reply = answer(&question, cast.elsewhere, seen).without_checksum();
    let out = meets(&node, &rig, &reply);
    assert_returned(&out, cast.node_port, cast.client);
    assert_eq!(out.frame[40..42], [0, 0]);
}

/// A node with two uplinks: from one to the other only where XDP may send, and answers by the way that the client came.
#[test]
fn a_packet_changes_uplinks_only_where_the_other_has_the_program() {
    let node = acquainted();
    let n1 = &node.network.node("n1").unwrap().netns;
    n1.ip(&[
        "link add other type veth peer name far".to_owned(),
        "link set other up".to_owned(),
        "link set far up".to_owned(),
        "route add 203.0.113.0/24 via inet6 fe80::77 dev other".to_owned(),
        format!("route add {}/64 via fe80::77 dev other", twin(Ipv4Addr::new(203, 0, 113, 0))),
        "neighbour replace fe80::77 lladdr 02:00:00:00:fe:77 dev other nud permanent".to_owned(),
    ])
    .unwrap();
    let other = n1.run(|| nix::net::if_::if_nametoindex("other").unwrap()).unwrap();
    for cast in casts() {
        for target in [false, true] {
            let mut rig = Rig::new();
            node_port(&mut rig, &cast, &[(1, cast.elsewhere)]);
            if target {
                rig.xdp_target(node.uplink);
                rig.xdp_target(other);
            }
            for opening in openings(cast.client, cast.node_port) {
                let out = meets_frame(&node, &rig, other, &opening.frame());
                let tc = |packet: &Packet, device| {
                    let frame = packet.frame();
                    n1.run(|| test_run::run(rig.program("mr_from_uplink"), &frame, Some(device)).unwrap()).unwrap()
                };
                let seen = if target {
                    assert_eq!((out.action, &out.frame[..6]), (Action::Redirect, ROUTER_MAC.as_slice()));
                    out.seen().unwrap().source
                } else {
                    assert_left(&out, &opening.frame(), "the uplink has no XDP");
                    tc(&opening, other).seen().unwrap().source
                };
                let reply = answer(&opening, cast.elsewhere, seen);
                let out = meets(&node, &rig, &reply);
                if target {
                    assert_eq!((out.action, &out.frame[..6]), (Action::Redirect, [2, 0, 0, 0, 0xfe, 0x77].as_slice()));
                    let back = out.seen().unwrap();
                    assert!(back.checksums_hold(), "{back:#?}");
                    assert_eq!((back.source, back.destination), (cast.node_port, cast.client));
                } else {
                    assert_left(&out, &reply.frame(), "the uplink has no XDP");
                }
            }
            assert_eq!(rig.count(Verdict::XdpServed), if target { 4 } else { 0 }, "{:?}", rig.counts());
        }
    }
}
