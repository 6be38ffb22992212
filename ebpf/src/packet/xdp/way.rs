//! Where a packet goes on: over which uplink, and to which neighbour.

use aya_ebpf::bindings::{BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LOOKUP_OUTPUT, xdp_md};
use millrace_common::{
    flow::{Flow, Tuple, state},
    scratch::Packet,
};

use crate::{
    maps::XDP_TARGETS,
    packet::{deliver::Lookup, network::Network},
};

pub(super) struct Way {
    pub device: u32,
    /// The device's, then the next hop's.
    pub macs: [u16; 6],
}

impl Way {
    pub(super) const NONE: Self = Self { device: 0, macs: [0; 6] };
}

/// The way of what becomes `to`, where it leads over an uplink to a neighbour that is known, and the packet fits: as the
/// program on tc finds it, for which everything else is.
#[inline(never)]
pub(super) fn find<F: Network>(
    xdp: *mut xdp_md,
    packet: &Packet<F::Address>,
    to: &Flow<F::Address>,
    way: &mut Way,
) -> bool {
    // SAFETY: the context's own field.
    let here = unsafe { (*xdp).ingress_ifindex };
    // Answers leave by the device that the client came by; 0: they are for this node itself.
    let answers = packet.tuple.direction != Tuple::<F::Address>::FORWARD;
    let (device, flags) = if answers { (to.device, BPF_FIB_LOOKUP_OUTPUT) } else { (here, 0) };
    if to.state & state::OF_BOTH != state::NODE || device == 0 {
        return false;
    }
    let length = F::HEADER + packet.l4_length;
    let mut lookup = Lookup::new::<F>(packet, to, device, length as u16);
    if lookup.ask(xdp.cast(), flags) != BPF_FIB_LKUP_RET_SUCCESS || (answers && lookup.device != device) {
        return false;
    }
    *way = Way { device: lookup.device, macs: lookup.macs };
    way.device == here || XDP_TARGETS.get_ptr(way.device).is_some()
}
