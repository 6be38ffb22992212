//! New addresses and ports for a plain packet, and checksums that hold.

use aya_ebpf::bindings::xdp_md;
use millrace_common::{
    address::protocol,
    checksum::Sum,
    flow::Flow,
    header::{ether, tcp, udp},
    scratch::Packet,
};

use crate::packet::{
    flow::ports,
    frame::{Buffer, Frame, adjust},
    network::Network,
};

/// Gives the packet the addresses and ports of `to`, and takes a hop off it. `macs`: its new source, then its destination. False if a place lies
/// beyond the packet, which the parser has ruled out.
#[inline(always)]
pub(super) fn rewrite<F: Network>(
    xdp: *mut xdp_md,
    packet: &Packet<F::Address>,
    to: &Flow<F::Address>,
    macs: &[u16; 6],
) -> bool {
    let buffer = Buffer::of(xdp);
    let (l3, l4) = (ether::HEADER, ether::HEADER + F::HEADER);
    let old = F::addresses(packet.tuple.source, packet.tuple.destination);
    let new = F::addresses(to.source, to.destination);
    let addresses = Sum::ZERO.replace_all(old.as_ref(), new.as_ref());
    let old = ports(packet.tuple.source_port, packet.tuple.destination_port);
    let numbers = ports(to.source_port, to.destination_port);
    let [a, b, c, d, e, f] = *macs;
    transport(buffer, l4, packet.tuple.protocol, addresses.replace(old, numbers))
        && buffer.load(l3 + F::HOPS).is_some_and(|word| buffer.store(l3 + F::HOPS, &F::forwarded(word, addresses)))
        && buffer.store(l4, &numbers)
        && buffer.store(l3 + F::ADDRESSES, &new)
        && buffer.store(0, &[d, e, f, a, b, c])
}

#[inline(always)]
fn transport(buffer: Buffer, l4: u32, protocol: u8, change: Sum) -> bool {
    if protocol == protocol::TCP {
        return adjust(buffer, l4 + tcp::CHECKSUM, change).is_some();
    }
    let Some(old) = buffer.load::<u16>(l4 + udp::CHECKSUM) else { return false };
    // Zero means "none" and stays so; a sum that becomes zero is written as ones (RFC 768).
    old == 0
        || match change.update(old) {
            0 => buffer.store(l4 + udp::CHECKSUM, &u16::MAX),
            new => buffer.store(l4 + udp::CHECKSUM, &new),
        }
}
