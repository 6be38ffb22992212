//! Connection tracking: two entries per flow, one for each direction.

use core::mem::offset_of;

use crate::address::{Addr4, Addr6, Port};

/// Key of CT and CT_NEW: the packet as it arrives, before translation.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Tuple<A> {
    pub source: A,
    pub destination: A,
    pub source_port: Port,
    pub destination_port: Port,
    pub protocol: u8,
    /// [`Tuple::FORWARD`] or [`Tuple::REPLY`]: a pod that talks to itself has both with like addresses.
    pub direction: u8,
    pub _pad: u16,
}

impl<A: Copy> Flow<A> {
    /// The packet after translation, as a tuple of `direction`: reversed, it is the key of the other direction.
    #[inline(always)]
    #[must_use]
    pub fn translated(&self, protocol: u8, direction: u8) -> Tuple<A> {
        Tuple {
            source: self.source,
            destination: self.destination,
            source_port: self.source_port,
            destination_port: self.destination_port,
            protocol,
            direction,
            _pad: 0,
        }
    }
}

impl<A: Copy> Tuple<A> {
    /// From the client.
    pub const FORWARD: u8 = 0;
    /// To the client.
    pub const REPLY: u8 = 1;

    /// The tuple of a packet that answers this one, in `direction`.
    #[inline(always)]
    #[must_use]
    pub fn reversed(&self, direction: u8) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
            direction,
            _pad: 0,
        }
    }
}

/// Value of CT and CT_NEW.
///
/// The kernel may hand a deleted element to another key while a program still reads it. `head` and `tail` carry the
/// hash of the key ([`crate::select::tag`]); a reader that finds either wrong treats the entry as absent.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Flow<A> {
    pub head: u32,
    /// Index of the service record.
    pub service: u32,
    pub backend: u32,
    /// Epoch of the backend when it was chosen.
    pub epoch: u32,
    /// What the packet's addresses and ports become.
    pub source: A,
    pub destination: A,
    pub source_port: Port,
    pub destination_port: Port,
    /// Seconds of CLOCK_MONOTONIC when a packet of this direction was last seen.
    pub last_seen: u32,
    /// [`state`] bits seen in this direction.
    pub state: u32,
    /// Index of the device that the flow began on, where its answers leave by; 0: they are for this node itself. Means
    /// something only with [`state::NODE`].
    pub device: u32,
    /// What XDP remembers of the way on: the next hop ([`crate::way`]).
    pub way: u64,
    /// The same: how large a packet it carries.
    pub reach: u32,
    pub tail: u32,
}

/// Bits of [`Flow::state`].
pub mod state {
    /// A packet of this direction was seen; of an established flow's client: since it was answered, no SYN counting.
    pub const SEEN: u32 = 1;
    /// TCP: the sender of this direction has closed.
    pub const FIN: u32 = 1 << 1;
    /// TCP: this direction carried a reset, and nothing else since: its sender did not mean the end if it goes on, or it was
    /// another's.
    pub const RST: u32 = 1 << 2;
    /// The client and the backend are one pod; the source is translated too.
    pub const HAIRPIN: u32 = 1 << 3;
    /// A packet of this direction was seen again, a second or more after another: no single question.
    pub const LATER: u32 = 1 << 4;
    /// The client is no pod of this node: answers are translated where they reach the node (at the backend's veth, or
    /// at an uplink), not at the client's veth.
    pub const NODE: u32 = 1 << 5;
    /// Answers go to the router that the client came by: the node has no route to the client over that device.
    pub const ROUTER: u32 = 1 << 6;
    /// The client is a socket of this node that is connected to a backend which no longer serves: its packets name that
    /// one, and no frontend.
    pub const PINNED: u32 = 1 << 7;
    /// The bits above: how far WITHDRAWALS had counted when the flow's frontend was last seen to be its service's.
    const COUNT_SHIFT: u32 = 8;

    /// True unless a frontend was withdrawn since the entry was stamped.
    #[inline(always)]
    #[must_use]
    pub const fn is_stamped(state: u32, withdrawals: u64) -> bool {
        state >> COUNT_SHIFT == withdrawals as u32 & (u32::MAX >> COUNT_SHIFT)
    }

    #[inline(always)]
    #[must_use]
    pub const fn stamped(state: u32, withdrawals: u64) -> u32 {
        state & ((1 << COUNT_SHIFT) - 1) | (withdrawals as u32) << COUNT_SHIFT
    }

    /// What both entries of a flow say alike.
    pub const OF_BOTH: u32 = HAIRPIN | NODE | PINNED;

    /// True when a TCP connection is over: reset, or closed by both sides.
    #[inline(always)]
    #[must_use]
    pub const fn closed(one: u32, other: u32) -> bool {
        (one | other) & RST != 0 || one & other & FIN != 0
    }
}

/// Seconds that an idle flow is kept, by what was seen of it.
pub mod timeout {
    use super::state;
    use crate::address::protocol;

    /// TCP, both sides open. Two hours and four minutes: past the default keepalive (RFC 5382, REQ-5).
    pub const TCP_ESTABLISHED: u32 = 7440;
    /// TCP, closed by one or both sides, or reset.
    pub const TCP_CLOSING: u32 = 120;
    /// TCP, answered, and not taken up by the client, as those of a flood of SYNs with sources that are not the sender's.
    /// The answer is sent again for about a minute, after 32 seconds at most.
    pub const TCP_OPENING: u32 = 60;
    /// UDP that was answered (RFC 4787, REQ-5, asks for two minutes or more).
    pub const UDP: u32 = 180;
    /// UDP that was one question and its answer, as DNS is: at two minutes each, a busy resolver would fill the table.
    pub const UDP_ONCE: u32 = 30;
    /// Any other protocol.
    pub const OTHER: u32 = 600;
    /// A flow that nobody has answered, before another may take the place of its answers. A SYN is sent again for
    /// about a minute.
    pub const UNANSWERED: u32 = 60;

    /// No flow is forgotten sooner.
    pub const SHORTEST: u32 = UDP_ONCE;

    /// For a flow of which this was seen in `one` direction and in the `other`.
    #[inline(always)]
    #[must_use]
    pub const fn of(protocol: u8, one: u32, other: u32) -> u32 {
        let states = one | other;
        match protocol {
            protocol::TCP | protocol::SCTP if one & other & state::SEEN == 0 => TCP_OPENING,
            protocol::TCP | protocol::SCTP if states & (state::FIN | state::RST) != 0 => TCP_CLOSING,
            protocol::TCP | protocol::SCTP => TCP_ESTABLISHED,
            protocol::UDP if states & state::LATER != 0 => UDP,
            protocol::UDP => UDP_ONCE,
            _ => OTHER,
        }
    }
}

/// True if nothing was seen for more than `limit` seconds. Another CPU may have seen something after `now` was read:
/// the difference has a sign.
#[inline(always)]
#[must_use]
pub const fn idle(now: u32, last_seen: u32, limit: u32) -> bool {
    now.wrapping_sub(last_seen).cast_signed() > limit.cast_signed()
}

/// True if an entry may be deleted, by [`Flow::state`] and [`Flow::last_seen`] of its own and of the flow's other entry.
/// One without the other is left over from a flow that was moved.
#[inline(always)]
#[must_use]
pub const fn expired(now: u32, protocol: u8, mine: (u32, u32), other: Option<(u32, u32)>) -> bool {
    let Some(other) = other else { return idle(now, mine.1, timeout::TCP_CLOSING) };
    let last_seen = if mine.1.wrapping_sub(other.1).cast_signed() > 0 { mine.1 } else { other.1 };
    idle(now, last_seen, timeout::of(protocol, mine.0, other.0))
}

/// The source of a pod's packets to itself through a service: an address that the pod routes to its gateway, so that
/// the answers come back here. One of IPv4's link-local addresses that nobody hands out (RFC 3927), and a ULA that
/// nobody else has (RFC 4193).
pub mod loop_address {
    use super::{Addr4, Addr6};
    use crate::address::{addr4, addr6};
    use core::net::{Ipv4Addr, Ipv6Addr};

    pub const V4: Addr4 = addr4(Ipv4Addr::new(169, 254, 42, 1));
    /// `fd6d:696c:6c72:6163::1` ("millrac" in ASCII).
    pub const V6: Addr6 = addr6(Ipv6Addr::new(0xfd6d, 0x696c, 0x6c72, 0x6163, 0, 0, 0, 1));
}

const _: () = assert!(size_of::<Tuple<Addr4>>() == 16);
const _: () = assert!(size_of::<Tuple<Addr6>>() == 40);
const _: () = assert!(size_of::<Flow<Addr4>>() == 56);
const _: () = assert!(size_of::<Flow<Addr6>>() == 80);
// Words that are stored alone lie on their own boundary, the tags at both ends.
const _: () = assert!(offset_of!(Flow<Addr4>, way) % 8 == 0 && offset_of!(Flow<Addr6>, way) % 8 == 0);
const _: () = assert!(offset_of!(Flow<Addr4>, tail) == 52 && offset_of!(Flow<Addr6>, tail) == 76);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::protocol::{TCP, UDP};

    /// The clock that packets read may be a moment ahead of the one that the sweep read, and it wraps.
    #[test]
    fn a_flow_seen_this_moment_is_not_idle() {
        assert!(!idle(100, 101, 30));
        assert!(!idle(100, 70, 30));
        assert!(idle(100, 69, 30));
        assert!(idle(5, u32::MAX - 40, 30));
        assert!(!idle(5, u32::MAX - 10, 30));
    }

    /// One row per rule: what was seen of a flow decides how long it is kept.
    #[test]
    fn how_long_a_flow_is_kept() {
        let (seen, fin, later) = (state::SEEN, state::SEEN | state::FIN, state::SEEN | state::LATER);
        let rows = [
            ("an open connection", TCP, seen, seen, timeout::TCP_ESTABLISHED),
            ("not taken up by the client", TCP, 0, later, timeout::TCP_OPENING),
            ("a busy connection", TCP, later, later, timeout::TCP_ESTABLISHED),
            ("half closed", TCP, fin, later, timeout::TCP_CLOSING),
            ("reset", TCP, seen, seen | state::RST, timeout::TCP_CLOSING),
            ("one question", UDP, seen, seen, timeout::UDP_ONCE),
            ("a conversation", UDP, later, seen, timeout::UDP),
        ];
        for (name, protocol, one, other, limit) in rows {
            for (mine, other) in [((one, 1000), (other, 900)), ((other, 900), (one, 1000))] {
                assert!(!expired(1000 + limit, protocol, mine, Some(other)), "{name}");
                assert!(expired(1001 + limit, protocol, mine, Some(other)), "{name}");
            }
        }
    }

    /// The stamp takes no bit from what else is known of a flow, and the count may pass what the stamp holds.
    #[test]
    fn a_stamp_holds_until_the_next_withdrawal() {
        for count in [0, 1, (1 << 24) - 1, 1 << 24, u64::MAX] {
            let state = state::stamped(state::SEEN | state::NODE | state::LATER, count);
            assert!(state::is_stamped(state, count));
            assert!(!state::is_stamped(state, count.wrapping_add(1)));
            assert_eq!(state & 0xff, state::SEEN | state::NODE | state::LATER);
            assert_eq!(state::stamped(state, 7), state::stamped(state & 0xff, 7));
        }
    }

    /// An entry without its other half is no flow: it goes soon, whatever it says.
    #[test]
    fn a_lone_entry_goes_soon() {
        assert!(!expired(1000 + timeout::TCP_CLOSING, TCP, (state::SEEN, 1000), None));
        assert!(expired(1001 + timeout::TCP_CLOSING, TCP, (state::SEEN, 1000), None));
    }
}
