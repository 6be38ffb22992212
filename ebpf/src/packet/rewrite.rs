//! New addresses and ports for a packet, and checksums that hold.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM},
    helpers::{bpf_csum_update, bpf_l3_csum_replace, bpf_l4_csum_replace},
    programs::sk_buff::SkBuff,
};
use millrace_common::{
    address::protocol,
    checksum::Sum,
    crc32c,
    flow::Flow,
    header::{Part, sctp, tcp, udp},
    scratch::Packet,
    verdict::Verdict,
};

use super::{
    DROP, NEXT,
    flow::ports,
    network::{Network, load, store},
};
use crate::stats::count;

/// Gives the packet the addresses and ports of `to`.
#[inline(never)]
pub(super) fn rewrite<F: Network>(skb: *mut __sk_buff, packet: &Packet<F::Address>, to: &Flow<F::Address>) -> i32 {
    let old = F::addresses(packet.tuple.source, packet.tuple.destination);
    let new = F::addresses(to.source, to.destination);
    let difference = Sum::ZERO.replace_all(old.as_ref(), new.as_ref()).folded32();
    let done = (packet.part == Part::Tail || transport::<F>(skb, packet, to, difference))
        && network::<F>(skb, packet.l3, difference)
        && store(skb, packet.l3 + F::ADDRESSES, &new);
    if done {
        return NEXT;
    }
    count(Verdict::DropRewriteFailed);
    DROP
}

#[inline(always)]
fn network<F: Network>(skb: *mut __sk_buff, l3: u32, difference: u32) -> bool {
    match F::CHECKSUM {
        // SAFETY: a helper that checks its offset; size 0 says that `to` is a difference.
        Some(offset) => unsafe { bpf_l3_csum_replace(skb, l3 + offset, 0, difference as u64, 0) == 0 },
        None => {
            // The sum over the whole packet that a device may have computed: the transport's checksum was changed as
            // if the addresses were not part of it, which is right for IPv4, whose header's own checksum makes up
            // for them. Here they go back in.
            // SAFETY: a helper; it fails where there is no such sum.
            unsafe { bpf_csum_update(skb, difference) };
            true
        }
    }
}

/// True for a fragment that cannot be translated: SCTP's checksum covers the packet from its ports to its end, which is not
/// here, but not the addresses.
#[inline(always)]
pub(super) fn needs_the_rest<F: Network>(packet: &Packet<F::Address>, to: &Flow<F::Address>) -> bool {
    let tuple = &packet.tuple;
    let same = tuple.source_port == to.source_port && tuple.destination_port == to.destination_port;
    tuple.protocol == protocol::SCTP && packet.part == Part::Head && !same
}

/// The ports and SCTP's checksum. A checksum of zero was left to the device (CHECKSUM_PARTIAL; the kernel adds the packet
/// up as it finds it, so zero it must stay) or out (RFC 9653). One in four thousand million packets has it by chance.
#[inline(never)]
fn sctp<F: Network>(skb: *mut __sk_buff, packet: &Packet<F::Address>, to: &Flow<F::Address>) -> bool {
    let old = ports(packet.tuple.source_port, packet.tuple.destination_port);
    let new = ports(to.source_port, to.destination_port);
    if old == new {
        return true;
    }
    let at = packet.l4 + sctp::CHECKSUM;
    let Some(known) = load::<u32>(skb, at) else { return false };
    let checksum = if known == 0 { 0 } else { crc32c::replace_first(known, old, new, packet.l4_length) };
    // Whatever a device has summed up over the whole packet follows.
    let skb = SkBuff::new(skb);
    let flags = BPF_F_RECOMPUTE_CSUM as u64;
    skb.store(packet.l4 as usize, &new, flags).is_ok() && skb.store(at as usize, &checksum, flags).is_ok()
}

/// Ports and the transport's checksum. The kernel may have left that to the device (CHECKSUM_PARTIAL): then it holds
/// the sum of the pseudo header only, which the addresses change and the ports do not. The helper knows.
#[inline(always)]
fn transport<F: Network>(
    skb: *mut __sk_buff,
    packet: &Packet<F::Address>,
    to: &Flow<F::Address>,
    difference: u32,
) -> bool {
    if packet.tuple.protocol == protocol::SCTP {
        return sctp::<F>(skb, packet, to);
    }
    let (offset, flags) = if packet.tuple.protocol == protocol::TCP {
        (packet.l4 + tcp::CHECKSUM, 0)
    } else {
        // Zero means "none" and stays so; a sum that becomes zero is written as ones (RFC 768).
        (packet.l4 + udp::CHECKSUM, BPF_F_MARK_MANGLED_0 as u64)
    };
    // SAFETY: a helper that checks its offset; size 0 says that `to` is a difference.
    let addresses =
        unsafe { bpf_l4_csum_replace(skb, offset, 0, difference as u64, flags | BPF_F_PSEUDO_HDR as u64) == 0 };
    let old = ports(packet.tuple.source_port, packet.tuple.destination_port);
    let new = ports(to.source_port, to.destination_port);
    if old == new || !addresses {
        return addresses;
    }
    // SAFETY: as above; the size of what changes is four bytes.
    let changed = unsafe { bpf_l4_csum_replace(skb, offset, old as u64, new as u64, flags | 4) == 0 };
    changed && store(skb, packet.l4, &new)
}
