//! Nobody is there: the client is told at once, by the packet that it sent, made into an answer.

use core::ptr::null_mut;

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_csum_diff, bpf_ktime_get_ns, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes},
};
use millrace_common::{
    address::protocol,
    checksum::Sum,
    header::{self, Part, Segment, icmp, sctp, tcp},
    scratch::{Packet, QUOTE, Scratch},
    verdict::Verdict,
};

use super::{
    DROP,
    hook::Hook,
    network::{Network, load, store},
    turn,
};
use crate::{maps::ANSWERS, stats::count};

/// Answers `packet` if that is allowed, and ends it either way.
#[inline(never)]
pub(super) fn refuse<F: Network, H: Hook>(skb: *mut __sk_buff, scratch: &mut Scratch<F::Address>) -> i32 {
    let packet = &scratch.packet;
    if !deserves_answer::<F>(skb, packet) || !affordable() {
        count(Verdict::RejectedSilently);
        return DROP;
    }
    // A reset has no place for options and extensions; their senders understand the other answer as well.
    if packet.l4 == packet.l3 + F::HEADER && answer_in_kind::<F>(skb, packet) {
        count(Verdict::RejectedReset);
        return turn::around::<H>(skb);
    }
    error::<F, H>(skb, scratch, Error { what: F::PORT_UNREACHABLE, mtu: 0 }, Verdict::RejectedUnreachable)
}

/// Tells the sender of a packet that does not fit how large it may be, and ends it.
#[inline(always)]
pub(super) fn too_big<F: Network, H: Hook>(skb: *mut __sk_buff, scratch: &mut Scratch<F::Address>, mtu: u32) -> i32 {
    told::<F, H>(skb, scratch, Error { what: F::TOO_BIG, mtu }, Verdict::TooBig)
}

/// Tells the sender of a packet that no hops are left for its way on, and ends it.
#[inline(always)]
pub(super) fn hops_used_up<F: Network, H: Hook>(skb: *mut __sk_buff, scratch: &mut Scratch<F::Address>) -> i32 {
    told::<F, H>(skb, scratch, Error { what: F::TIME_EXCEEDED, mtu: 0 }, Verdict::HopsUsedUp)
}

/// Makes the packet that error, if it deserves an answer, and ends it either way.
#[inline(never)]
fn told<F: Network, H: Hook>(
    skb: *mut __sk_buff,
    scratch: &mut Scratch<F::Address>,
    what: Error,
    verdict: Verdict,
) -> i32 {
    if !deserves_answer::<F>(skb, &scratch.packet) || !affordable() {
        count(Verdict::RejectedSilently);
        return DROP;
    }
    error::<F, H>(skb, scratch, what, verdict)
}

/// No answer to a fragment's tail, a reset, a broadcast or an address that is no host's (RFC 1122, 3.2.2). Errors are
/// never refused in the first place.
#[inline(always)]
fn deserves_answer<F: Network>(skb: *mut __sk_buff, packet: &Packet<F::Address>) -> bool {
    let reset = protocol::connects(packet.tuple.protocol) && packet.kind & tcp::RST != 0;
    let group = load::<u8>(skb, 0).is_none_or(|first| first & 1 != 0);
    packet.part != Part::Tail && !reset && !group && F::is_host(packet.tuple.source)
}

/// Takes one answer out of this CPU's bucket.
#[inline(always)]
fn affordable() -> bool {
    // SAFETY: the map gave the pointer, and the value is this CPU's own.
    ANSWERS.get_ptr_mut(0).is_some_and(|bucket| unsafe { (*bucket).take(bpf_ktime_get_ns()) })
}

/// True if the packet was made one that ends what it would begin, in its own protocol.
#[inline(always)]
fn answer_in_kind<F: Network>(skb: *mut __sk_buff, packet: &Packet<F::Address>) -> bool {
    match packet.tuple.protocol {
        protocol::TCP => reset::<F>(skb, packet),
        protocol::SCTP => abort::<F>(skb, packet),
        _ => false,
    }
}

/// Makes the packet an SCTP ABORT. One that is too short to be an INIT is answered otherwise.
#[inline(never)]
fn abort<F: Network>(skb: *mut __sk_buff, packet: &Packet<F::Address>) -> bool {
    let Some(words) = load::<[u32; 5]>(skb, packet.l4) else { return false };
    let (tuple, answer) = (&packet.tuple, header::abort(words));
    let network = F::header(tuple.destination, tuple.source, protocol::SCTP, sctp::SHORTEST);
    resize(skb, packet.l3 + F::HEADER + sctp::SHORTEST)
        && store(skb, packet.l3, &network)
        && store(skb, packet.l3 + F::HEADER, &answer)
}

/// Makes the packet a TCP reset.
#[inline(never)]
fn reset<F: Network>(skb: *mut __sk_buff, packet: &Packet<F::Address>) -> bool {
    let Some(words) = load::<[u32; 5]>(skb, packet.l4) else { return false };
    let [offset, flags, _, _] = words[3].to_ne_bytes();
    let segment = Segment {
        sequence: u32::from_be(words[1]),
        acknowledgment: u32::from_be(words[2]),
        flags,
        payload: packet.l4_length.wrapping_sub((offset >> 4) as u32 * 4),
    };
    let tuple = &packet.tuple;
    let pseudo = header::pseudo(tuple.source.as_ref(), tuple.destination.as_ref(), protocol::TCP, tcp::HEADER);
    let answer = header::reset(segment, tuple.destination_port, tuple.source_port, pseudo);
    let network = F::header(tuple.destination, tuple.source, protocol::TCP, tcp::HEADER);
    resize(skb, packet.l3 + F::HEADER + tcp::HEADER)
        && store(skb, packet.l3, &network)
        && store(skb, packet.l3 + F::HEADER, &answer)
}

/// An ICMP error to be made.
#[derive(Clone, Copy)]
struct Error {
    /// Type and code.
    what: [u8; 2],
    /// Zero where the error has none.
    mtu: u32,
}

#[inline(always)]
fn error<F: Network, H: Hook>(
    skb: *mut __sk_buff,
    scratch: &mut Scratch<F::Address>,
    error: Error,
    verdict: Verdict,
) -> i32 {
    if quote::<F>(skb, scratch, error) {
        count(verdict);
        return turn::around::<H>(skb);
    }
    count(Verdict::DropRewriteFailed);
    DROP
}

/// Makes the packet an ICMP error that quotes it.
#[inline(never)]
fn quote<F: Network>(skb: *mut __sk_buff, scratch: &mut Scratch<F::Address>, error: Error) -> bool {
    let Scratch { packet, quote, .. } = scratch;
    quote.fill(0);
    let length = (packet.l4 - packet.l3).wrapping_add(packet.l4_length);
    let length = if length > QUOTE as u32 { QUOTE as u32 } else { length };
    if length < F::HEADER {
        return false;
    }
    // SAFETY: `length` is at most the size of the buffer; the helper checks the packet's end.
    if unsafe { bpf_skb_load_bytes(skb.cast(), packet.l3, quote.as_mut_ptr().cast(), length) } != 0 {
        return false;
    }
    // A loop would have all of it on the stack first, which has no room for that.
    // SAFETY: the buffer, as long as it is said to be; the helper reads it.
    let sum = unsafe { bpf_csum_diff(null_mut(), 0, quote.as_mut_ptr(), QUOTE as u32, 0) };
    let sum = Sum::ZERO.add(sum as u32);
    if !resize(skb, packet.l3 + F::HEADER + icmp::HEADER + length) || !head::<F>(skb, packet, length, error, sum) {
        return false;
    }
    let at = packet.l3 + F::HEADER + icmp::HEADER;
    // SAFETY: as above.
    unsafe { bpf_skb_store_bytes(skb.cast(), at, quote.as_ptr().cast(), length, 0) == 0 }
}

/// The headers before the quote of `length` bytes, whose sum is `quoted`.
#[inline(never)]
fn head<F: Network>(skb: *mut __sk_buff, packet: &Packet<F::Address>, length: u32, error: Error, quoted: Sum) -> bool {
    let tuple = &packet.tuple;
    let [kind, code] = error.what;
    let mut sum = quoted.add(u32::from_ne_bytes([kind, code, 0, 0])).add(error.mtu.to_be());
    if F::ICMP_PSEUDO {
        let (source, destination) = (tuple.source.as_ref(), tuple.destination.as_ref());
        sum = sum.join(header::pseudo(source, destination, F::ICMP, icmp::HEADER + length));
    }
    let [a, b] = sum.checksum().to_ne_bytes();
    let network = F::header(tuple.destination, tuple.source, F::ICMP, icmp::HEADER + length);
    let header = [u32::from_ne_bytes([kind, code, a, b]), error.mtu.to_be()];
    store(skb, packet.l3, &network) && store(skb, packet.l3 + F::HEADER, &header)
}

/// Cuts the frame to `length` bytes, or makes it longer.
///
/// A packet whose checksum was left to the device keeps that mark; the pod's kernel takes it for verified, and what
/// is written here is right in any case.
#[inline(always)]
fn resize(skb: *mut __sk_buff, length: u32) -> bool {
    // SAFETY: a helper that checks its arguments; no pointer into the packet is kept.
    unsafe { bpf_skb_change_tail(skb, length, 0) == 0 }
}
