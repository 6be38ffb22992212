//! A node with services, conversations that have begun, and the frames that belong to them.

use std::net::{Ipv4Addr, SocketAddr};

use millrace_common::{
    address::{Address as _, protocol},
    flow::loop_address,
    frontend::FrontendKind,
    service::SetWord,
};
use millrace_tests::{
    address::in_family,
    packet::{Body, Flags, IcmpError, Packet, Seen, chunk},
    test_run::{self, Action, Outcome},
};

use super::oracle::Parties;
use crate::{
    rig::{self, NODE, Rig, answer},
    uplink::{self, Node},
};

/// How a frame meets the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    FromPod,
    ToPod,
    FromUplink,
    ToUplink,
    Xdp,
}

impl Way {
    /// Behaviours that a thousand frames meet in any case: half of what they do as a rule.
    pub(super) const fn least(self) -> usize {
        match self {
            Self::FromPod | Self::FromUplink => 7,
            Self::ToUplink => 5,
            Self::Xdp | Self::ToPod => 3,
        }
    }
}

pub(super) struct Scene<'a> {
    pub(super) rig: Rig,
    node: &'a Node,
    pub(super) way: Way,
    pub(super) parties: Parties,
    pub(super) seeds: Vec<Vec<u8>>,
    /// Frames of flows that the seeds are not of, and what became of them.
    others: Vec<(Way, Vec<u8>, Outcome)>,
}

/// A ClusterIP and a node port without endpoints.
const DEAD: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 11);
const DEAD_PORT: u16 = 30_081;
const EVERY: [u8; 3] = [protocol::TCP, protocol::UDP, protocol::SCTP];

impl<'a> Scene<'a> {
    /// Called in the node's network namespace.
    pub(super) fn new(node: &'a Node, way: Way) -> Self {
        let parties = Parties::default();
        let mut scene = Self { rig: Rig::new(), node, way, parties, seeds: Vec::new(), others: Vec::new() };
        let families: Vec<_> = rig::casts().into_iter().zip(uplink::casts()).collect();
        for ((inside, outside), record) in families.iter().zip([1, 3]) {
            scene.serve(record, inside, outside);
        }
        for (inside, outside) in &families {
            let at = |mut address: SocketAddr, port| {
                address.set_port(port);
                address
            };
            scene.others(Way::FromPod, at(inside.client, 41_000), inside.service, outside.elsewhere);
            scene.others(Way::FromUplink, at(outside.client, 51_000), outside.node_port, outside.elsewhere);
            scene.seed(inside, outside);
        }
        scene
    }

    fn serve(&mut self, record: u32, inside: &rig::Cast, outside: &uplink::Cast) {
        let v6 = inside.client.is_ipv6();
        let dead = [SocketAddr::new(in_family(DEAD, v6), 80), SocketAddr::new(outside.node_port.ip(), DEAD_PORT)];
        let kinds = [FrontendKind::ClusterIp, FrontendKind::LoadBalancer, FrontendKind::NodePort];
        let frontends = [inside.service, inside.vip, outside.node_port];
        for protocol in EVERY {
            for (frontend, kind) in frontends.into_iter().zip(kinds) {
                self.rig.frontend(record, frontend, protocol, kind);
            }
            self.rig.frontend(record + 1, dead[0], protocol, FrontendKind::ClusterIp);
            self.rig.frontend(record + 1, dead[1], protocol, FrontendKind::NodePort);
        }
        let backends = [outside.pod, outside.elsewhere];
        assert_eq!(backends, [inside.one, inside.two], "both casts are of one cluster");
        self.rig.backends(record, &[(record, backends[0]), (record + 1, backends[1])]);
        self.rig.set(record + 1, SetWord::REJECT);
        self.parties.frontends.extend(frontends);
        self.parties.without_endpoints.extend(dead);
        self.parties.backends.extend(backends);
        let itself = if v6 { loop_address::V6.to_ip() } else { loop_address::V4.to_ip() };
        self.parties.stand_ins.extend([in_family(NODE, v6), itself]);
    }

    pub(super) fn meets(&self, way: Way, frame: &[u8]) -> Outcome {
        let (program, device) = match way {
            Way::FromPod => ("mr_from_pod", self.node.veth),
            Way::ToPod => ("mr_to_pod", self.node.veth),
            Way::FromUplink => ("mr_from_uplink", self.node.uplink),
            Way::ToUplink => ("mr_to_uplink", self.node.uplink),
            Way::Xdp => return test_run::run_xdp(self.rig.xdp(), frame, self.node.uplink).unwrap(),
        };
        test_run::run(self.rig.program(program), frame, Some(device)).unwrap()
    }

    /// Opens a connection and a flow of datagrams that must not notice what else is sent.
    fn others(&mut self, forth: Way, client: SocketAddr, frontend: SocketAddr, elsewhere: SocketAddr) {
        for opening in rig::openings(client, frontend) {
            let begun = self.meets(forth, &opening.frame());
            let seen = begun.seen().unwrap();
            assert!(self.parties.backends.contains(&seen.destination), "{opening:?} became {seen:#?}");
            let back = match forth {
                Way::FromPod => Way::ToPod,
                _ if seen.destination == elsewhere => Way::FromUplink,
                _ => Way::FromPod,
            };
            let reply = answer(&opening, seen.destination, seen.source).frame();
            let replied = self.meets(back, &reply);
            assert_eq!(replied.seen().unwrap().source, frontend);
            let more = match opening.body {
                Body::Tcp { .. } => Packet::tcp(client, frontend, Flags::ACK),
                _ => opening.clone(),
            };
            let more = more.payload(b"more").frame();
            let followed = self.meets(forth, &more);
            assert_ne!(followed.action, Action::Drop);
            self.others.extend([(back, reply, replied), (forth, more, followed)]);
        }
    }

    /// True for a packet of one of those flows: frames of an earlier scene are changed further, and by chance the node may have
    /// given the same port again. An end that resets its own flow has ended it.
    pub(super) fn is_of_others(&self, frame: &[u8]) -> bool {
        let ends = |frame: &[u8]| Seen::frame(frame).ok().map(|seen| (seen.source, seen.destination, seen.protocol));
        ends(frame).is_some_and(|of| self.others.iter().any(|(_, other, _)| ends(other) == Some(of)))
    }

    /// The flows that nobody meddled with are led as they were.
    pub(super) fn assert_others_go_on(&self) {
        for (way, frame, expected) in &self.others {
            assert_eq!(&self.meets(*way, frame), expected, "{way:?} of {:?}", self.rig.counts());
        }
    }

    fn seed(&mut self, inside: &rig::Cast, outside: &uplink::Cast) {
        let v6 = inside.client.is_ipv6();
        let dead = SocketAddr::new(in_family(DEAD, v6), 80);
        let dead_port = SocketAddr::new(outside.node_port.ip(), DEAD_PORT);
        let node = SocketAddr::new(in_family(NODE, v6), 42_000);
        match self.way {
            Way::FromPod => {
                for to in [inside.service, inside.vip, outside.node_port, dead, inside.stranger] {
                    self.questions(inside.client, to);
                }
                // A pod that meets itself, and one that answers a client outside.
                self.questions(SocketAddr::new(inside.one.ip(), 40_000), inside.service);
                self.answers(Way::FromUplink, outside.client, outside.node_port, inside.stranger);
            }
            Way::ToPod => self.answers(Way::FromPod, inside.client, inside.service, inside.stranger),
            Way::FromUplink | Way::Xdp => {
                for to in [outside.node_port, inside.vip, dead_port, inside.stranger] {
                    self.questions(outside.client, to);
                }
                self.answers(Way::FromUplink, outside.client, outside.node_port, outside.router);
            }
            Way::ToUplink => {
                for to in [inside.service, inside.vip, dead, inside.stranger] {
                    self.questions(node, to);
                }
                self.questions(node, outside.client);
            }
        }
    }

    /// What a client sends to a frontend, of every kind.
    fn questions(&mut self, from: SocketAddr, to: SocketAddr) {
        let plain = plain(from, to);
        for packet in &plain {
            let dressed =
                if from.is_ipv4() { packet.clone().ip_options(&[1; 8]) } else { packet.clone().extension_headers() };
            self.seeds
                .extend([packet.clone(), packet.clone().vlan(7), packet.clone().ttl(1), dressed].map(|p| p.frame()));
        }
        self.seeds.extend(Packet::udp(from, to, &[7; 900]).fragments(0x77, 400));
        let echo = Packet::new(from, to, Body::EchoRequest { id: 7, payload: b"echo".into() });
        let raw = Packet::new(from, to, Body::Raw { protocol: 47, bytes: vec![0; 24] });
        self.seeds.extend([echo.frame(), raw.frame()]);
    }

    /// What comes back to a client, from backends and from routers, once it has asked by the way `forth`.
    fn answers(&mut self, forth: Way, client: SocketAddr, frontend: SocketAddr, router: SocketAddr) {
        for packet in plain(client, frontend) {
            let Ok(seen) = self.meets(forth, &packet.frame()).seen() else { continue };
            let mut sent = packet.clone();
            (sent.source, sent.destination) = (seen.source, seen.destination);
            for from in [router, seen.destination] {
                for (error, quote) in [
                    (IcmpError::TooBig { mtu: 1400 }, 1000),
                    (IcmpError::PortUnreachable, if client.is_ipv4() { 28 } else { 48 }),
                    (IcmpError::TimeExceeded, 64),
                ] {
                    self.seeds.push(Packet::icmp_error(from, error, &sent, quote).frame());
                }
            }
            // The client does not want the answer.
            let heard = answer(&packet, frontend, client);
            self.seeds.push(Packet::icmp_error(client, IcmpError::PortUnreachable, &heard, 64).frame());
            for reply in plain(seen.destination, seen.source) {
                self.seeds.extend([reply.frame(), reply.vlan(7).frame()]);
            }
            self.seeds.extend(Packet::udp(seen.destination, seen.source, &[9; 900]).fragments(0x78, 400));
        }
    }
}

/// A packet of each transport and of each moment in its life.
fn plain(from: SocketAddr, to: SocketAddr) -> Vec<Packet> {
    let mut packets: Vec<_> = [Flags::SYN, Flags::SYN_ACK, Flags::ACK, Flags::FIN_ACK, Flags::RST]
        .map(|flags| Packet::tcp(from, to, flags).payload(b"payload"))
        .into();
    packets.extend([chunk::INIT, chunk::INIT_ACK, chunk::DATA, chunk::ABORT].map(|kind| Packet::sctp(from, to, kind)));
    let datagram = Packet::udp(from, to, b"question");
    packets.extend([datagram.clone(), datagram.without_checksum(), Packet::udp(from, to, b"")]);
    packets
}
