//! ICMP errors: they are about a packet that was translated, and quote it. Who receives one must find the packet that
//! it sent, so the quote is translated back; an error that nobody would understand is a connection that hangs.

use aya_ebpf::bindings::__sk_buff;
use millrace_common::{
    address::{Port, protocol},
    checksum::Sum,
    crc32c,
    flow::{Flow, state},
    header::{Part, icmp, sctp, tcp, udp},
    scratch::{Packet, Scratch},
    select,
    verdict::Verdict,
};

use super::{
    DROP, NEXT,
    deliver::{self, Found, Way},
    flow,
    frame::adjust,
    hook::Hook,
    hops,
    network::{Network, load, store},
    parse::Shape,
    turn,
};
use crate::stats::count;

/// What a quote has of its transport at least (RFC 792): both ports, and four bytes more.
const QUOTED: u32 = 8;

/// True for an ICMP error that is here as a whole.
#[inline(always)]
pub(super) fn is_error<F: Network>(packet: &Packet<F::Address>) -> bool {
    packet.tuple.protocol == F::ICMP && packet.part == Part::Whole && F::icmp_is_error(packet.kind)
}

/// The entry that an error may travel by.
#[derive(Clone, Copy)]
pub(super) struct About {
    /// The way of the packets that would answer the quoted one.
    pub direction: u8,
    /// The flow has [`state::NODE`].
    pub node: bool,
}

/// Translates an error, if it is about a packet of such a flow.
#[inline(never)]
pub(super) fn translate<F: Network, H: Hook>(
    skb: *mut __sk_buff,
    scratch: &mut Scratch<F::Address>,
    one: About,
    other: Option<About>,
) -> i32 {
    let Scratch { packet, quoted, to, .. } = scratch;
    *quoted = Packet::at(packet.l4 + icmp::HEADER);
    if !read_quote::<F>(skb, packet, quoted) {
        return NEXT;
    }
    // An error for another host than the one that the quoted packet came from is not ours to explain.
    if packet.tuple.destination != quoted.tuple.source {
        return NEXT;
    }
    if find::<F>(quoted, one, to) {
        packet.tuple.direction = one.direction;
    } else if let Some(other) = other
        && find::<F>(quoted, other, to)
    {
        packet.tuple.direction = other.direction;
    } else {
        return NEXT;
    }
    let mut way = Way::STACK;
    if H::NODE && to.state & state::NODE != 0 && deliver::find::<F, H>(skb, packet, to, &mut way) != Found::Way {
        count(Verdict::DropNoRoute);
        return DROP;
    }
    // No error is answered by another.
    if !H::EGRESS && way.leads_on() && !hops::forwarded::<F>(skb, packet.l3) {
        count(Verdict::RejectedSilently);
        return DROP;
    }
    let from_there = packet.tuple.source == quoted.tuple.destination;
    let done =
        rewrite_quote::<F>(skb, quoted, to).is_some_and(|quote| rewrite_outer::<F>(skb, packet, to, from_there, quote));
    if !done {
        count(Verdict::DropRewriteFailed);
        return DROP;
    }
    count(Verdict::IcmpErrorTranslated);
    if to.state & state::HAIRPIN != 0 { turn::around::<H>(skb) } else { way.take(skb) }
}

/// The tuple of the quoted packet. A quote ends early, as a rule: eight bytes of the transport are enough. What lies behind
/// the end of the packet itself, as padding does, is no part of it.
#[inline(always)]
fn read_quote<F: Network>(skb: *mut __sk_buff, packet: &Packet<F::Address>, quoted: &mut Packet<F::Address>) -> bool {
    if F::read(skb, quoted, true) != Shape::Readable
        || quoted.part == Part::Tail
        || quoted.l4_length < QUOTED
        || quoted.l4 + QUOTED > packet.l4 + packet.l4_length
        || !protocol::has_ports(quoted.tuple.protocol)
    {
        return false;
    }
    let Some([source, destination, _, _]) = load::<[u16; 4]>(skb, quoted.l4) else { return false };
    quoted.tuple.source_port = Port::from_network(source);
    quoted.tuple.destination_port = Port::from_network(destination);
    let checksum_end = match quoted.tuple.protocol {
        protocol::TCP => tcp::CHECKSUM + 2,
        protocol::SCTP => sctp::CHECKSUM + 4,
        _ => udp::CHECKSUM + 2,
    };
    quoted.kind = (quoted.l4 + checksum_end <= packet.l4 + packet.l4_length) as u8;
    true
}

#[inline(never)]
fn find<F: Network>(quoted: &Packet<F::Address>, about: About, to: &mut Flow<F::Address>) -> bool {
    let key = quoted.tuple.reversed(about.direction);
    let tag = select::tag(&key);
    let found = F::ct().get_ptr(&key).is_some_and(|entry| flow::read(entry, tag, to))
        || F::ct_new().get_ptr(&key).is_some_and(|entry| flow::read(entry, tag, to));
    found && about.node == (to.state & state::NODE != 0)
}

/// The outer destination becomes that of `to`, and so does the source of an error that comes `from_there`: from the
/// other end of the flow, not from a router on the way. `quote` is how the quote has changed.
#[inline(never)]
fn rewrite_outer<F: Network>(
    skb: *mut __sk_buff,
    packet: &Packet<F::Address>,
    to: &Flow<F::Address>,
    from_there: bool,
    quote: Sum,
) -> bool {
    let old = &packet.tuple;
    let source = if from_there { to.source } else { old.source };
    let outer = Sum::ZERO
        .replace_all(old.source.as_ref(), source.as_ref())
        .replace_all(old.destination.as_ref(), to.destination.as_ref());
    let covered = if F::ICMP_PSEUDO { outer } else { Sum::ZERO };
    store(skb, packet.l3 + F::ADDRESSES, &F::addresses(source, to.destination))
        && header_checksum::<F>(skb, packet.l3, outer).is_some()
        && adjust(skb, packet.l4 + icmp::CHECKSUM, covered.join(quote)).is_some()
}

/// What the change of the quote means to the sum over it.
#[inline(never)]
fn rewrite_quote<F: Network>(skb: *mut __sk_buff, quoted: &Packet<F::Address>, to: &Flow<F::Address>) -> Option<Sum> {
    let addresses = Sum::ZERO
        .replace_all(quoted.tuple.source.as_ref(), to.destination.as_ref())
        .replace_all(quoted.tuple.destination.as_ref(), to.source.as_ref());
    if !store(skb, quoted.l3 + F::ADDRESSES, &F::addresses(to.destination, to.source)) {
        return None;
    }
    let header = header_checksum::<F>(skb, quoted.l3, addresses)?;
    let old = flow::ports(quoted.tuple.source_port, quoted.tuple.destination_port);
    let new = flow::ports(to.destination_port, to.source_port);
    let ports = Sum::ZERO.replace(old, new);
    if !store(skb, quoted.l4, &new) {
        return None;
    }
    let transport = match quoted.tuple.protocol {
        _ if quoted.kind == 0 => Sum::ZERO,
        protocol::SCTP => sctp_checksum::<F>(skb, quoted, old, new),
        protocol => transport_checksum(skb, protocol, quoted.l4, addresses.join(ports)),
    };
    Some(addresses.join(header).join(ports).join(transport))
}

/// The network header's own checksum after a change of what it covers; how the checksum changed.
#[inline(always)]
fn header_checksum<F: Network>(skb: *mut __sk_buff, l3: u32, change: Sum) -> Option<Sum> {
    match F::CHECKSUM {
        Some(offset) => adjust(skb, l3 + offset, change),
        None => Some(Sum::ZERO),
    }
}

/// The transport's checksum in the quote, if the quote reaches so far and there is one.
#[inline(always)]
fn transport_checksum(skb: *mut __sk_buff, protocol: u8, l4: u32, change: Sum) -> Sum {
    if protocol == protocol::TCP {
        return adjust(skb, l4 + tcp::CHECKSUM, change).unwrap_or(Sum::ZERO);
    }
    match load::<u16>(skb, l4 + udp::CHECKSUM) {
        None | Some(0) => Sum::ZERO,
        Some(_) => adjust(skb, l4 + udp::CHECKSUM, change).unwrap_or(Sum::ZERO),
    }
}

/// The same of SCTP: the quoted header says how long the packet was that it covers, here or not.
#[inline(never)]
fn sctp_checksum<F: Network>(skb: *mut __sk_buff, quoted: &Packet<F::Address>, old: u32, new: u32) -> Sum {
    let at = quoted.l4 + sctp::CHECKSUM;
    match load::<u32>(skb, at) {
        None | Some(0) => Sum::ZERO,
        Some(known) => {
            let changed = crc32c::replace_first(known, old, new, quoted.l4_length);
            if store(skb, at, &changed) { Sum::ZERO.replace(known, changed) } else { Sum::ZERO }
        }
    }
}
