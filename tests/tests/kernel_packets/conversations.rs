//! Many clients talk to a service at once, in packets of every dress and length, while routers complain and strangers
//! pass by. Whatever the order: what a packet says is kept, its checksums hold, a flow stays with its backend, an
//! answer comes from the frontend that was asked, and what is nobody's is not touched.

use std::{collections::HashMap, net::SocketAddr};

use millrace_common::{address::protocol, frontend::FrontendKind, verdict::Verdict};
use millrace_tests::{
    packet::{Body, Flags, IcmpError, Packet, Seen, SeenBody},
    test_run::Action,
};

use crate::{
    random::Random,
    rig::{Cast, Rig, casts},
};

const PACKETS: usize = 10_000;
const CLIENT_PORTS: usize = 60;

/// A client's socket and its protocol.
type Client = (SocketAddr, bool);

struct Conversations {
    cast: Cast,
    rig: Rig,
    random: Random,
    /// Where each flow went.
    backends: HashMap<Client, SocketAddr>,
}

#[test]
fn conversations_keep_what_they_say_and_whom_they_talk_to() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one), (2, cast.two)]);
        for protocol in [protocol::TCP, protocol::UDP] {
            rig.frontend(1, cast.vip, protocol, FrontendKind::ExternalIp);
        }
        let mut all = Conversations { cast, rig, random: Random::new(), backends: HashMap::new() };
        for _ in 0..PACKETS {
            match all.random.below(8) {
                0..=2 => all.question(),
                3..=5 => all.answer(),
                6 => all.complaint(),
                _ => all.stranger(),
            }
        }
        assert_eq!(all.backends.len(), 2 * CLIENT_PORTS, "every client had its turn");
        assert!(all.rig.count(Verdict::PacketReversed) > PACKETS as u64 / 4, "{:?}", all.rig.counts());
        let counts = all.rig.counts();
        for unwanted in Verdict::ALL.iter().map(|verdict| verdict.name()).filter(|name| name.starts_with("drop_")) {
            assert!(!counts.contains_key(unwanted), "{counts:?}");
        }
    }
}

impl Conversations {
    fn client(&mut self) -> Client {
        let port = self.cast.client.port() + u16::try_from(self.random.below(CLIENT_PORTS)).unwrap();
        (SocketAddr::new(self.cast.client.ip(), port), self.random.one_in(2))
    }

    /// Each client names the same one always.
    fn frontend(&self, client: &Client) -> SocketAddr {
        if client.0.port().is_multiple_of(2) { self.cast.service } else { self.cast.vip }
    }

    fn packet(&mut self, source: SocketAddr, destination: SocketAddr, tcp: Option<Flags>) -> Packet {
        let payload = self.random.bytes(1200);
        let mut packet = match tcp {
            Some(flags) => Packet::tcp(source, destination, flags).payload(&payload),
            None => Packet::udp(source, destination, &payload),
        };
        if source.is_ipv4() && self.random.one_in(4) {
            packet = packet.without_checksum();
        }
        self.dress(packet)
    }

    fn dress(&mut self, mut packet: Packet) -> Packet {
        if self.random.one_in(4) {
            packet = packet.vlan(7);
        }
        if packet.source.is_ipv4() && self.random.one_in(4) {
            packet = packet.ip_options(&vec![1; 4 * (1 + self.random.below(10))]);
        }
        if packet.source.is_ipv6() && self.random.one_in(4) {
            packet = packet.extension_headers();
        }
        packet.ttl(u8::try_from(1 + self.random.below(255)).unwrap())
    }

    fn question(&mut self) {
        let client = self.client();
        let known = self.backends.get(&client).copied();
        let flags = if known.is_some() { Flags::ACK } else { Flags::SYN };
        let frontend = self.frontend(&client);
        let packet = self.packet(client.0, frontend, client.1.then_some(flags));
        let out = self.rig.pod_sends(&packet);
        assert_eq!(out.action, Action::Next, "{packet:?}: {:?}", self.rig.counts());
        let seen = out.seen().unwrap();
        assert!([self.cast.one, self.cast.two].contains(&seen.destination), "{seen:#?}");
        assert!(known.is_none_or(|known| known == seen.destination), "a flow has moved: {seen:#?}");
        self.backends.insert(client, seen.destination);
        assert_said(&packet, &seen, client.0, seen.destination);
    }

    fn answer(&mut self) {
        let client = self.client();
        let Some(backend) = self.backends.get(&client).copied() else { return };
        let packet = self.packet(backend, client.0, client.1.then_some(Flags::SYN_ACK));
        let out = self.rig.pod_is_sent(&packet);
        assert_eq!(out.action, Action::Next, "{packet:?}");
        assert_said(&packet, &out.seen().unwrap(), self.frontend(&client), client.0);
    }

    /// A router on the way says that a packet could not be delivered; it quotes as much of it as it likes.
    fn complaint(&mut self) {
        let client = self.client();
        let Some(backend) = self.backends.get(&client).copied() else { return };
        let about = self.packet(client.0, backend, client.1.then_some(Flags::ACK));
        // RFC 792: the header and 8 bytes; RFC 1812 and RFC 4443: as much as fits.
        let least = about.ip_bytes().len() - payload(&about) - if client.1 { 12 } else { 0 };
        let quote = least + self.random.below(600);
        let error = Packet::icmp_error(self.cast.stranger, IcmpError::HostUnreachable, &about, quote);
        let error = self.dress(error);
        let out = self.rig.pod_is_sent(&error);
        assert_eq!(out.action, Action::Next, "{error:?}");
        let seen = out.seen().unwrap();
        assert!(seen.checksums_hold(), "{quote} bytes of {about:?}: {seen:#?}");
        let SeenBody::IcmpError { quoted, .. } = &seen.body else { panic!("{seen:#?}") };
        assert_eq!((quoted.source, quoted.destination), (client.0, self.frontend(&client)), "{quote} bytes");
    }

    fn stranger(&mut self) {
        let client = self.client();
        let flags = client.1.then_some(Flags::ACK);
        let mut stranger = self.cast.stranger;
        if self.random.one_in(2) {
            // A backend's address, but another port: no service's.
            stranger = SocketAddr::new(self.cast.two.ip(), 9);
        }
        let away = self.packet(client.0, stranger, flags);
        let out = self.rig.pod_sends(&away);
        assert_eq!((out.action, out.frame), (Action::Next, away.frame()));
        let back = self.packet(stranger, client.0, flags);
        let out = self.rig.pod_is_sent(&back);
        assert_eq!((out.action, out.frame), (Action::Next, back.frame()));
    }
}

fn payload(packet: &Packet) -> usize {
    match &packet.body {
        Body::Tcp { payload, .. } | Body::Udp { payload, .. } => payload.len(),
        _ => 0,
    }
}

/// After translation it says what it said before, but for its addresses, and its checksums hold.
fn assert_said(before: &Packet, after: &Seen, source: SocketAddr, destination: SocketAddr) {
    assert!(after.checksums_hold(), "{before:?}: {after:#?}");
    assert_eq!((after.source, after.destination), (source, destination));
    let said = Seen::frame(&before.frame()).unwrap();
    let unchanged = Seen { source: said.source, destination: said.destination, ..after.clone() };
    assert_eq!(unchanged, said);
}
