//! What must hold of any frame and what became of it, by another reader than the programs'.

use std::net::{IpAddr, SocketAddr};

use millrace_common::snat::{FIRST_KEPT, LAST_KEPT};
use millrace_tests::{
    packet::{Seen, SeenBody, chunk},
    test_run::{Action, Outcome},
};

/// Who takes part, both families in one list.
#[derive(Default)]
pub(super) struct Parties {
    pub(super) frontends: Vec<SocketAddr>,
    /// Frontends of services that nobody serves.
    pub(super) without_endpoints: Vec<SocketAddr>,
    pub(super) backends: Vec<SocketAddr>,
    /// Whom a backend may see in its client's place: the node, and the address that stands for a pod that meets itself.
    pub(super) stand_ins: Vec<IpAddr>,
}

impl Parties {
    pub(super) fn judge(&self, frame: &[u8], out: &Outcome) {
        match out.action {
            Action::Drop => {
                if let Ok(was) = Seen::frame(frame) {
                    assert!(self.concerns(&was), "dropped, and none of ours: {was:#?}");
                }
            }
            Action::Next if out.frame == frame => {}
            Action::Next | Action::Redirect | Action::Transmit => {
                assert_ne!(out.frame, frame, "{:?} of a frame as it came", out.action);
                let was = Seen::frame(frame).unwrap_or_else(|problem| panic!("{problem}, and changed to {out:?}"));
                let is = out.seen().unwrap();
                if says_no(&is) && !says_no(&was) {
                    assert_answer(&was, &is);
                } else {
                    assert_eq!(out.frame.len(), frame.len(), "{was:#?} became {is:#?}");
                    // A hop where it is sent on in the stack's place; none from the node itself.
                    let hops = was.ttl.checked_sub(is.ttl).unwrap();
                    assert!(hops <= u8::from(out.action != Action::Next), "{was:#?} became {is:#?}");
                    self.assert_passed_on(&was, &is);
                }
            }
            Action::Pass | Action::Other(_) => panic!("{out:?}"),
        }
    }

    /// Whether one of its addresses is a service's or stands in for a client.
    fn concerns(&self, packet: &Seen) -> bool {
        let known = self.frontends.iter().chain(&self.without_endpoints).chain(&self.backends).map(SocketAddr::ip);
        let known: Vec<IpAddr> = known.chain(self.stand_ins.iter().copied()).collect();
        [packet.source.ip(), packet.destination.ip()].iter().any(|ip| known.contains(ip))
    }

    /// But for who talks to whom, nothing is different.
    fn assert_passed_on(&self, was: &Seen, is: &Seen) {
        let (mut from, mut to) = (was.clone(), is.clone());
        let led = match (&mut from.body, &mut to.body) {
            (SeenBody::IcmpError { quoted: old, .. }, SeenBody::IcmpError { quoted: new, .. }) => {
                // What is complained of went the other way; its sender knows it as it was before.
                let led = self.is_forward(new, old) || self.is_reverse(new, old);
                (new.source, new.destination) = (old.source, old.destination);
                led
            }
            _ => self.is_forward(was, is) || self.is_reverse(was, is),
        };
        assert!(led, "misdelivered: {was:#?} became {is:#?}");
        (to.source, to.destination, to.ttl) = (from.source, from.destination, from.ttl);
        assert_eq!(from, to);
    }

    /// From a client to a frontend, now to a backend.
    fn is_forward(&self, was: &Seen, is: &Seen) -> bool {
        has(&self.frontends, was, was.destination)
            && has(&self.backends, is, is.destination)
            && (is_client(is.source, was.source) || self.stand_ins.contains(&is.source.ip()))
    }

    /// From a backend to a client or who stands in for it, now from a frontend to the client.
    fn is_reverse(&self, was: &Seen, is: &Seen) -> bool {
        has(&self.backends, was, was.source)
            && has(&self.frontends, is, is.source)
            && (is_client(was.destination, is.destination) || self.stand_ins.contains(&was.destination.ip()))
    }
}

/// The backend sees the client under its own port, or under another where that one is taken.
fn is_client(seen: SocketAddr, client: SocketAddr) -> bool {
    seen.ip() == client.ip() && (seen.port() == client.port() || (FIRST_KEPT..=LAST_KEPT).contains(&seen.port()))
}

/// Fragments but the first have no ports.
fn has(list: &[SocketAddr], packet: &Seen, address: SocketAddr) -> bool {
    let tail = packet.fragment.is_some_and(|fragment| fragment.offset > 0);
    list.iter().any(|known| if tail { known.ip() == address.ip() } else { *known == address })
}

fn says_no(packet: &Seen) -> bool {
    match &packet.body {
        SeenBody::Tcp { flags, .. } => flags.rst,
        SeenBody::Sctp { chunk: [kind, _], .. } => *kind == chunk::ABORT,
        SeenBody::IcmpError { .. } => true,
        _ => false,
    }
}

/// A refusal, or word that the packet is too large or has no hops left: right in itself, and to nothing that must not be
/// answered (RFC 1122, 3.2.2; RFC 9293, 3.10.7.1).
fn assert_answer(was: &Seen, is: &Seen) {
    assert!(is.checksums_hold() || !was.checksums_hold(), "{was:#?} is answered by {is:#?}");
    assert!(was.fragment.is_none_or(|fragment| fragment.offset == 0), "a fragment's tail is answered: {was:#?}");
    let is_about = match &is.body {
        SeenBody::IcmpError { quoted, .. } => {
            (quoted.source, quoted.destination, quoted.protocol) == (was.source, was.destination, was.protocol)
                && (is.source.ip(), is.destination.ip()) == (was.destination.ip(), was.source.ip())
        }
        _ => (is.source, is.destination, is.protocol) == (was.destination, was.source, was.protocol),
    };
    assert!(is_about, "{was:#?} is answered by {is:#?}");
}
