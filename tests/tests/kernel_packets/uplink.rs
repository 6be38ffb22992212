//! Clients outside: their packets come to the node by its uplink, and so do the answers of backends elsewhere.

mod own;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use millrace_common::{
    address::protocol,
    frontend::FrontendKind,
    service::{Attributes, SetWord},
    verdict::Verdict,
};
use millrace_tests::{
    address::in_family,
    network::{Network, NodeSpec, OUTSIDE},
    packet::{IcmpError, Packet, SeenBody},
    test_run::{self, Action, Outcome},
};

use crate::{
    rig::{NODE, Rig, SNAT_FIRST, answer, openings},
    sweep::sweep,
};

const POD: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 168, 2, 21);
const PORTS: u32 = 1000;

/// A node with an uplink and a pod, for the kernel's routes; the programs are run as if on its devices.
pub(crate) struct Node {
    pub(crate) network: Network,
    pub(crate) uplink: u32,
    pub(crate) veth: u32,
}

impl Node {
    pub(crate) fn new() -> Self {
        let mut network = Network::create(&[NodeSpec { name: "n1", zone: "a", number: 1 }]).unwrap();
        network.node_mut("n1").unwrap().add_pod("p1", POD).unwrap();
        let node = network.node("n1").unwrap();
        let veth = node.pod("p1").unwrap().device.clone();
        let index = |name: &str| node.netns.run(|| nix::net::if_::if_nametoindex(name).unwrap()).unwrap();
        let (uplink, veth) = (index("uplink"), index(&veth));
        Self { network, uplink, veth }
    }

    fn run(&self, rig: &Rig, program: &str, device: u32, frame: &[u8]) -> Outcome {
        let node = self.network.node("n1").unwrap();
        node.netns.run(|| test_run::run(rig.program(program), frame, Some(device)).unwrap()).unwrap()
    }

    /// A packet comes by the uplink.
    pub(crate) fn gets(&self, rig: &Rig, packet: &Packet) -> Outcome {
        self.run(rig, "mr_from_uplink", self.uplink, &packet.frame())
    }

    /// The backend that is a pod of this node sends a packet.
    pub(crate) fn pod_sends(&self, rig: &Rig, packet: &Packet) -> Outcome {
        self.run(rig, "mr_from_pod", self.veth, &packet.frame())
    }

    /// A process of the node sends a packet that leaves by the uplink.
    pub(crate) fn sends(&self, rig: &Rig, packet: &Packet) -> Outcome {
        self.run(rig, "mr_to_uplink", self.uplink, &packet.frame())
    }
}

/// One family's cast.
#[derive(Clone, Copy)]
pub(crate) struct Cast {
    pub(crate) client: SocketAddr,
    pub(crate) node_port: SocketAddr,
    /// A backend on this node, and one elsewhere.
    pub(crate) pod: SocketAddr,
    pub(crate) elsewhere: SocketAddr,
    pub(crate) router: SocketAddr,
}

pub(crate) fn casts() -> [Cast; 2] {
    [false, true].map(|v6| {
        let at = |ip, port| SocketAddr::new(in_family(ip, v6), port);
        Cast {
            client: at(OUTSIDE, 50_000),
            node_port: at(NODE, 30_080),
            pod: at(POD, 8080),
            elsewhere: at(ELSEWHERE, 8080),
            router: at(Ipv4Addr::new(198, 51, 100, 77), 0),
        }
    })
}

pub(crate) fn node_port(rig: &mut Rig, cast: &Cast, backends: &[(u32, SocketAddr)]) {
    for protocol in [protocol::TCP, protocol::UDP, protocol::SCTP] {
        rig.frontend(1, cast.node_port, protocol, FrontendKind::NodePort);
    }
    rig.backends(1, backends);
}

pub(crate) fn assert_sent(out: &Outcome, source: SocketAddr, destination: SocketAddr) {
    // As if the stack had forwarded it.
    assert_sent_with(63, out, source, destination);
}

fn assert_sent_with(hops: u8, out: &Outcome, source: SocketAddr, destination: SocketAddr) {
    assert_eq!(out.action, Action::Redirect, "{out:?}");
    let seen = out.seen().unwrap();
    assert!(seen.checksums_hold(), "{seen:#?}");
    assert_eq!((seen.source, seen.destination, seen.ttl), (source, destination, hops), "{seen:#?}");
}

/// The address and port that a backend sees, which must be the node's.
pub(crate) fn hidden(out: &Outcome, node: IpAddr, backend: SocketAddr) -> SocketAddr {
    hidden_with(63, out, node, backend)
}

fn hidden_with(hops: u8, out: &Outcome, node: IpAddr, backend: SocketAddr) -> SocketAddr {
    let seen = out.seen().unwrap();
    assert_sent_with(hops, out, seen.source, backend);
    assert_eq!(seen.source.ip(), node);
    let port = u32::from(seen.source.port());
    assert!((SNAT_FIRST..SNAT_FIRST + PORTS).contains(&port), "{port}");
    seen.source
}

/// Under policy Cluster a backend sees the node as its client, wherever it is, and its answer comes from the node port.
#[test]
fn a_client_outside_reaches_a_backend_and_is_answered_by_the_node_port() {
    let node = Node::new();
    for cast in casts() {
        for backend in [cast.pod, cast.elsewhere] {
            let mut rig = Rig::new();
            node_port(&mut rig, &cast, &[(1, backend)]);
            for opening in openings(cast.client, cast.node_port) {
                let seen = hidden(&node.gets(&rig, &opening), cast.node_port.ip(), backend);
                let reply = answer(&opening, backend, seen);
                let back = if backend == cast.pod { node.pod_sends(&rig, &reply) } else { node.gets(&rig, &reply) };
                assert_sent(&back, cast.node_port, cast.client);
                let more = node.gets(&rig, &opening.payload(b"more"));
                assert_sent(&more, seen, backend);
            }
            assert_eq!(rig.count(Verdict::PacketNewFlow), 2, "{:?}", rig.counts());
            assert_eq!(rig.count(Verdict::PacketReversed), 2, "{:?}", rig.counts());
        }
    }
}

/// Under policy Local the backend sees the client itself.
#[test]
fn under_policy_local_the_client_is_seen() {
    let node = Node::new();
    for cast in casts() {
        let mut rig = Rig::new();
        node_port(&mut rig, &cast, &[(1, cast.pod)]);
        rig.attributes(1, Attributes::new(Attributes::EXTERNAL_LOCAL, 0));
        rig.swap_sets(1);
        for opening in openings(cast.client, cast.node_port) {
            assert_sent(&node.gets(&rig, &opening), cast.client, cast.pod);
            let back = node.pod_sends(&rig, &answer(&opening, cast.pod, cast.client));
            assert_sent(&back, cast.node_port, cast.client);
        }
        rig.backends(1, &[(1, cast.elsewhere)]);
        rig.swap_sets(1);
        rig.set(1, SetWord::DROP);
        rig.swap_sets(1);
        for opening in openings(SocketAddr::new(cast.client.ip(), 50_001), cast.node_port) {
            assert_eq!(node.gets(&rig, &opening).action, Action::Drop, "none is local");
        }
    }
}

/// Without endpoints the client is told so, by the way that it came.
#[test]
fn a_client_outside_is_refused_where_there_is_no_endpoint() {
    let node = Node::new();
    for cast in casts() {
        let mut rig = Rig::new();
        node_port(&mut rig, &cast, &[(1, cast.pod)]);
        rig.set(1, SetWord::REJECT);
        for opening in openings(cast.client, cast.node_port) {
            let out = node.gets(&rig, &opening);
            assert_eq!(out.action, Action::Redirect, "{out:?}");
            assert_eq!(out.frame[..6], opening.source_mac);
            let seen = out.seen().unwrap();
            assert_eq!((seen.source.ip(), seen.destination.ip()), (cast.node_port.ip(), cast.client.ip()));
        }
        // The node's other ports are the node's: nobody owns its address.
        for opening in openings(cast.client, SocketAddr::new(cast.node_port.ip(), 22)) {
            let out = node.gets(&rig, &opening);
            assert_eq!((out.action, out.frame), (Action::Next, opening.frame()));
        }
    }
}

/// Each client has a port of its own towards a backend; when there is none left, a new flow is refused and counted, and
/// those that are there go on.
#[test]
fn clients_are_never_mixed_up_even_when_ports_run_out() {
    let node = Node::new();
    let cast = casts()[0];
    let mut rig = Rig::with_ports(32);
    node_port(&mut rig, &cast, &[(1, cast.elsewhere)]);
    let client = |port| SocketAddr::new(cast.client.ip(), port);
    let mut flows = Vec::new();
    for port in 1..=32 {
        let opening = &openings(client(port), cast.node_port)[0];
        let seen = hidden(&node.gets(&rig, opening), cast.node_port.ip(), cast.elsewhere);
        let back = node.gets(&rig, &answer(opening, cast.elsewhere, seen));
        assert_sent(&back, cast.node_port, client(port));
        flows.push((port, seen));
    }
    for port in 33..=40 {
        assert_eq!(node.gets(&rig, &openings(client(port), cast.node_port)[0]).action, Action::Drop);
    }
    assert_eq!(rig.count(Verdict::DropNoPort), 8, "{:?}", rig.counts());
    assert_eq!(sweep(&rig).v4.hidden, 32, "how many ports are taken is told");
    for (port, seen) in flows {
        let reply = answer(&openings(client(port), cast.node_port)[0], cast.elsewhere, seen);
        assert_sent(&node.gets(&rig, &reply), cast.node_port, client(port));
    }
}

/// Routers and backends complain about what the node sent on, clients about what they were answered: each hears of the
/// packet that it knows.
#[test]
fn errors_are_understood_at_both_ends() {
    let node = Node::new();
    for cast in casts() {
        let mut rig = Rig::new();
        node_port(&mut rig, &cast, &[(1, cast.elsewhere)]);
        let opening = &openings(cast.client, cast.node_port)[1];
        let mut sent = opening.clone();
        (sent.source, sent.destination) =
            (hidden(&node.gets(&rig, opening), cast.node_port.ip(), cast.elsewhere), cast.elsewhere);
        let reply = answer(opening, cast.elsewhere, sent.source);
        assert_sent(&node.gets(&rig, &reply), cast.node_port, cast.client);

        for from in [cast.router, cast.elsewhere] {
            let out = node.gets(&rig, &Packet::icmp_error(from, IcmpError::TooBig { mtu: 1400 }, &sent, 64));
            let source = if from == cast.elsewhere { cast.node_port } else { from };
            assert_about(&out, (source.ip(), cast.client.ip()), (cast.client, cast.node_port));
        }
        let mut answered = reply.clone();
        (answered.source, answered.destination) = (cast.node_port, cast.client);
        let error = Packet::icmp_error(cast.client, IcmpError::PortUnreachable, &answered, 64);
        let out = node.gets(&rig, &error);
        assert_about(&out, (sent.source.ip(), cast.elsewhere.ip()), (cast.elsewhere, sent.source));
    }
}

fn assert_about(out: &Outcome, (source, destination): (IpAddr, IpAddr), quoted: (SocketAddr, SocketAddr)) {
    assert_eq!(out.action, Action::Redirect, "{out:?}");
    let seen = out.seen().unwrap();
    assert!(seen.checksums_hold(), "{seen:#?}");
    assert_eq!((seen.source.ip(), seen.destination.ip()), (source, destination));
    let SeenBody::IcmpError { quoted: said, .. } = &seen.body else { panic!("{seen:#?}") };
    assert_eq!((said.source, said.destination), quoted);
}

/// A datagram that does not fit through the way to its backend: its sender is told how large it may be.
#[test]
fn a_packet_that_does_not_fit_is_answered() {
    let node = Node::new();
    let n1 = &node.network.node("n1").unwrap();
    n1.netns.ip(&[format!("link set {} mtu 1300", n1.pod("p1").unwrap().device)]).unwrap();
    for cast in casts() {
        let mut rig = Rig::new();
        node_port(&mut rig, &cast, &[(1, cast.pod)]);
        let large = Packet::udp(cast.client, cast.node_port, &[7; 1400]);
        let out = node.gets(&rig, &large);
        assert_eq!(out.action, Action::Redirect);
        let seen = out.seen().unwrap();
        assert!(seen.checksums_hold(), "{seen:#?}");
        assert_eq!((seen.source.ip(), seen.destination.ip()), (cast.node_port.ip(), cast.client.ip()));
        let SeenBody::IcmpError { error, quoted } = &seen.body else { panic!("{seen:#?}") };
        assert_eq!(*error, IcmpError::TooBig { mtu: 1300 });
        assert_eq!((quoted.source, quoted.destination), (cast.client, cast.node_port));
        assert_eq!(rig.count(Verdict::TooBig), 1, "{:?}", rig.counts());
    }
}

/// A packet without a hop left for the way on goes no further: whoever sent it, client or backend, is told.
#[test]
fn a_packet_whose_hops_are_used_up_is_answered() {
    let node = Node::new();
    for cast in casts() {
        let mut rig = Rig::new();
        node_port(&mut rig, &cast, &[(1, cast.pod)]);
        let question = Packet::udp(cast.client, cast.node_port, b"question");
        let seen = hidden(&node.gets(&rig, &question), cast.node_port.ip(), cast.pod);
        let reply = answer(&question, cast.pod, seen);
        let ways = [(question, &Node::gets as &dyn Fn(&Node, &Rig, &Packet) -> Outcome), (reply, &Node::pod_sends)];
        for (told, (packet, meets)) in (1..).zip(ways) {
            let out = meets(&node, &rig, &packet.clone().ttl(1));
            let (source, destination) = (packet.source, packet.destination);
            assert_about(&out, (destination.ip(), source.ip()), (source, destination));
            let SeenBody::IcmpError { error, .. } = out.seen().unwrap().body else { panic!("{out:?}") };
            assert_eq!((error, rig.count(Verdict::HopsUsedUp)), (IcmpError::TimeExceeded, told), "{:?}", rig.counts());
            let last = meets(&node, &rig, &packet.ttl(2)).seen().unwrap();
            assert!(last.ttl == 1 && last.checksums_hold(), "{last:#?}");
        }
        // Nor is an error answered by another.
        let sent = Packet::udp(seen, cast.pod, b"question");
        let error = Packet::icmp_error(cast.pod, IcmpError::PortUnreachable, &sent, 64);
        assert_eq!(node.pod_sends(&rig, &error.clone().ttl(1)).action, Action::Drop);
        let understood = node.pod_sends(&rig, &error.ttl(2)).seen().unwrap();
        assert!(understood.ttl == 1 && understood.checksums_hold(), "{understood:#?}");
    }
}

/// Datagrams leave a backend that is gone, and the client notices nothing; so do all fragments of one.
#[test]
fn datagrams_move_and_fragments_stay_together() {
    let node = Node::new();
    for cast in casts() {
        let mut rig = Rig::new();
        node_port(&mut rig, &cast, &[(1, cast.pod)]);
        let question = Packet::udp(cast.client, cast.node_port, b"question");
        let seen = hidden(&node.gets(&rig, &question), cast.node_port.ip(), cast.pod);
        assert_sent(&node.pod_sends(&rig, &answer(&question, cast.pod, seen)), cast.node_port, cast.client);
        rig.serving(1, 1, false);
        rig.backends(1, &[(2, cast.elsewhere)]);
        let seen = hidden(&node.gets(&rig, &question), cast.node_port.ip(), cast.elsewhere);
        assert_sent(&node.gets(&rig, &answer(&question, cast.elsewhere, seen)), cast.node_port, cast.client);

        for fragment in question.payload(&[7; 64]).fragments(99, 32) {
            let out = node.run(&rig, "mr_from_uplink", node.uplink, &fragment);
            assert_eq!(out.action, Action::Redirect);
            let after = out.seen().unwrap();
            assert_eq!((after.source.ip(), after.destination.ip()), (seen.ip(), cast.elsewhere.ip()));
        }
    }
}
