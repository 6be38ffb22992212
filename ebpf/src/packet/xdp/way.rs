//! Where a packet goes on: over which uplink, and to which neighbour.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::bindings::{BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LOOKUP_OUTPUT, xdp_md};
use millrace_common::{
    flow::{Flow, Tuple, state},
    scratch::Packet,
    way,
};

use crate::{
    maps::{ROUTE_CHANGES, XDP_TARGETS},
    packet::{
        deliver::Lookup,
        flow,
        frame::{Buffer, Frame},
        network::Network,
    },
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

/// The moment in which what the kernel says of a way holds.
#[inline(always)]
pub(super) fn moment() -> u32 {
    // SAFETY: the map gave the pointer. Volatile: the agent stores this word while we look.
    let changes = ROUTE_CHANGES.get_ptr(0).map_or(0, |count| unsafe { read_volatile(count) });
    way::moment(flow::clock(), changes)
}

/// The way that an established flow's packets have gone in this moment, out of the device that they come by, if `packet`
/// fits as well. `to` is as the entry says.
#[inline(always)]
pub(super) fn remembered<F: Network>(
    xdp: *mut xdp_md,
    packet: &Packet<F::Address>,
    to: &Flow<F::Address>,
    moment: u32,
    way: &mut Way,
) -> bool {
    let length = F::HEADER + packet.l4_length;
    // SAFETY: the context's own field.
    let here = unsafe { (*xdp).ingress_ifindex };
    if here != to.device {
        return false;
    }
    let Some(next) = way::next_hop(to.way, to.reach, length, moment, to.head) else { return false };
    let Some(own) = own(xdp) else { return false };
    *way = Way { device: here, macs: [own[0], own[1], own[2], next[0], next[1], next[2]] };
    true
}

/// Remembers the way in the flow's entry if it leads back out of the device where the flow began, under the MAC that the
/// packet came to: what is remembered is the next hop alone.
#[inline(always)]
pub(super) fn remember<F: Network>(
    xdp: *mut xdp_md,
    packet: &Packet<F::Address>,
    entry: *mut Flow<F::Address>,
    to: &Flow<F::Address>,
    moment: u32,
    way: &Way,
) {
    let [a, b, c, next @ ..] = way.macs;
    // SAFETY: the context's own field.
    let here = unsafe { (*xdp).ingress_ifindex };
    if way.device != here || to.device != here || own(xdp) != Some([a, b, c]) {
        return;
    }
    let reach = way::reaching((F::HEADER + packet.l4_length) as u16, to.reach, moment, to.head);
    // SAFETY: the map gave the pointer. If the element was handed to another key this very moment, the stamps do not fit.
    unsafe {
        write_volatile(&raw mut (*entry).way, way::to_next_hop(next, moment, to.head));
        write_volatile(&raw mut (*entry).reach, reach);
    }
}

/// The MAC that the packet came to.
#[inline(always)]
fn own(xdp: *mut xdp_md) -> Option<[u16; 3]> {
    Buffer::of(xdp).load(0)
}
