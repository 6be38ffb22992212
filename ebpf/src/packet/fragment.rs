//! Fragments: the first tells its ports to the others.

use millrace_common::{
    fragment::{FragmentKey, FragmentPorts},
    scratch::Packet,
};

use super::network::Network;

/// Gives a tail the ports of its head, if that was seen and is a service's.
#[inline(never)]
pub(super) fn ports<F: Network>(packet: &mut Packet<F::Address>) -> bool {
    // SAFETY: an LRU element may be handed to another datagram while it is read. Its ports then name another flow of
    // the same two addresses at worst, and a datagram with a foreign fragment fails its checksum.
    let Some(ports) = (unsafe { F::fragments().get(key(packet)) }) else { return false };
    packet.tuple.source_port = ports.source_port;
    packet.tuple.destination_port = ports.destination_port;
    true
}

/// Keeps the ports of a head that belongs to a flow. A full LRU makes room by itself.
#[inline(never)]
pub(super) fn remember<F: Network>(packet: &Packet<F::Address>) {
    let ports =
        FragmentPorts { source_port: packet.tuple.source_port, destination_port: packet.tuple.destination_port };
    let _ = F::fragments().insert(key(packet), ports, 0);
}

#[inline(always)]
fn key<A: Copy>(packet: &Packet<A>) -> FragmentKey<A> {
    FragmentKey {
        source: packet.tuple.source,
        destination: packet.tuple.destination,
        id: packet.fragment,
        protocol: packet.tuple.protocol,
        _pad: [0; 3],
    }
}
