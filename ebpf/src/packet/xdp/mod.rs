//! Packets of clients outside whose backend is behind an uplink, and their answers, sent on before the kernel makes
//! anything of them. It decides first and rewrites last: whatever is not plain, or may be another's business, goes on
//! untouched to the program on the same device's tc ingress, which knows the same flows. Nothing depends on XDP.

mod plain;
mod rewrite;
mod way;

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
        xdp_md,
    },
    helpers::bpf_redirect,
};
use millrace_common::{
    address::protocol,
    flow::{Flow, Tuple},
    header::{ether, tcp},
    scratch::{Packet, Scratch},
    verdict::Verdict,
};

use super::{
    Decision,
    begin::{self, Beginning},
    flow, forward,
    frame::{Buffer, Frame},
    hook::FromUplink,
    network::Network,
    parse::{self, Shape},
    reverse, scratch,
};
use crate::{
    choose::{Found, Service, find_frontend},
    family::{V4, V6},
    packet::xdp::way::Way,
    stats::count,
};

/// How a packet leaves by the device that it came by.
pub(crate) trait Back {
    const TX: bool;
}

/// By XDP_TX.
pub(crate) struct Tx;
/// As to any other device.
pub(crate) struct Redirect;

impl Back for Tx {
    const TX: bool = true;
}

impl Back for Redirect {
    const TX: bool = false;
}

/// A packet that comes by an uplink.
#[inline(always)]
pub(crate) fn from_uplink<B: Back>(xdp: *mut xdp_md) -> u32 {
    match Buffer::of(xdp).load::<u16>(ether::TYPE) {
        Some(ether::IPV4) => serve::<V4, B>(xdp),
        Some(ether::IPV6) => serve::<V6, B>(xdp),
        _ => XDP_PASS,
    }
}

/// A packet of a known flow costs one lookup or two; everything else is decided at leisure. Each is a function of its own that
/// the program itself calls: their stacks do not add up.
#[inline(always)]
fn serve<F: Network, B: Back>(xdp: *mut xdp_md) -> u32 {
    let action = established::<F, B>(xdp);
    if action != NOT_ESTABLISHED {
        return action;
    }
    let Some(Scratch { packet, to, .. }) = scratch::<F>() else { return XDP_PASS };
    match fresh::<F>(xdp, packet, to) {
        Decision::Send => begun::<F, B>(xdp, packet, to),
        Decision::Drop => {
            count(Verdict::XdpServed);
            XDP_DROP
        }
        Decision::Pass | Decision::Refuse | Decision::Turn => XDP_PASS,
    }
}

/// No action of XDP's.
const NOT_ESTABLISHED: u32 = u32::MAX;

/// What becomes of a packet of an established flow, and of one that is not plain. The kernel is asked for the way once a
/// moment.
#[inline(never)]
fn established<F: Network, B: Back>(xdp: *mut xdp_md) -> u32 {
    let Some(Scratch { packet, to, .. }) = scratch::<F>() else { return XDP_PASS };
    if !read::<F>(xdp, packet) {
        return XDP_PASS;
    }
    let Some((entry, verdict)) = known::<F>(packet, to) else { return NOT_ESTABLISHED };
    let mut way = Way::NONE;
    // Before the kernel is asked: a change meanwhile ends the moment.
    let moment = way::moment();
    if way::remembered::<F>(xdp, packet, to, moment, &mut way) {
        flow::mark(entry, to, packet);
    } else if way::find::<F>(xdp, packet, to, &mut way) {
        way::remember::<F>(xdp, packet, entry, to, moment, &way);
        flow::touch(entry, to, packet);
    } else {
        count(Verdict::XdpLeft);
        return XDP_PASS;
    }
    count(verdict);
    send::<F, B>(xdp, packet, to, &way)
}

/// A flow that has just begun, or was answered for the first time, goes on.
#[inline(never)]
fn begun<F: Network, B: Back>(xdp: *mut xdp_md, packet: &Packet<F::Address>, to: &Flow<F::Address>) -> u32 {
    let mut way = Way::NONE;
    if !way::find::<F>(xdp, packet, to, &mut way) {
        count(Verdict::XdpLeft);
        return XDP_PASS;
    }
    send::<F, B>(xdp, packet, to, &way)
}

/// True for a packet that is read, and plain.
#[inline(never)]
fn read<F: Network>(xdp: *mut xdp_md, packet: &mut Packet<F::Address>) -> bool {
    packet.restart(ether::HEADER);
    let buffer = Buffer::of(xdp);
    parse::headers::<F>(buffer, packet) == Shape::Readable && plain::is_plain::<F>(buffer, packet)
}

/// The entry of an established flow, and what serving the packet is called. It is marked, and the packet counted, only if
/// it is served here.
#[inline(always)]
fn known<F: Network>(
    packet: &mut Packet<F::Address>,
    to: &mut Flow<F::Address>,
) -> Option<(*mut Flow<F::Address>, Verdict)> {
    let rather = forward::answers_rather::<F, FromUplink>(packet);
    if rather && let Some(entry) = answered::<F>(packet, to) {
        return Some((entry, Verdict::PacketReversed));
    }
    packet.tuple.direction = Tuple::<F::Address>::FORWARD;
    if let Some(entry) = forward::known::<F>(packet, to) {
        return Some((entry, Verdict::PacketForwarded));
    }
    if rather || opens(packet) {
        return None;
    }
    answered::<F>(packet, to).map(|entry| (entry, Verdict::PacketReversed))
}

#[inline(always)]
fn answered<F: Network>(packet: &mut Packet<F::Address>, to: &mut Flow<F::Address>) -> Option<*mut Flow<F::Address>> {
    packet.tuple.direction = Tuple::<F::Address>::REPLY;
    reverse::known::<F>(packet, to, true)
}

#[inline(always)]
fn opens<A>(packet: &Packet<A>) -> bool {
    packet.tuple.protocol == protocol::TCP && tcp::opens(packet.kind)
}

/// A flow's first packet or its first answer. The entries are made before its way is known: where it leads elsewhere,
/// the program on tc goes on with them, so that nobody chooses twice.
#[inline(never)]
fn fresh<F: Network>(xdp: *mut xdp_md, packet: &mut Packet<F::Address>, to: &mut Flow<F::Address>) -> Decision {
    // A reset undoes the entries that tc would need, were it left to tc after all.
    if !opens(packet) && packet.kind & tcp::RST == 0 {
        packet.tuple.direction = Tuple::<F::Address>::REPLY;
        let decision = reverse::first::<F>(packet, to, true);
        if decision != Decision::Pass {
            return decision;
        }
    }
    packet.tuple.direction = Tuple::<F::Address>::FORWARD;
    begin::<F>(xdp, packet, to)
}

/// A flow that has entries of any kind is not begun: they say that something is out of the ordinary, such as a SYN that
/// had to be sent again.
#[inline(always)]
fn begin<F: Network>(xdp: *mut xdp_md, packet: &Packet<F::Address>, to: &mut Flow<F::Address>) -> Decision {
    let tuple = &packet.tuple;
    if tuple.protocol == protocol::TCP && !tcp::opens(packet.kind) {
        return Decision::Pass;
    }
    let Found::Frontend(frontend) = find_frontend::<F>(tuple.destination, tuple.destination_port, tuple.protocol)
    else {
        return Decision::Pass;
    };
    if F::ct().get_ptr(tuple).is_some() || F::ct_new().get_ptr(tuple).is_some() {
        return Decision::Pass;
    }
    let Some(service) = Service::from_outside(frontend) else { return Decision::Drop };
    // SAFETY: the context's own field.
    let device = unsafe { (*xdp).ingress_ifindex };
    begin::begin::<F, FromUplink, _>(xdp, &Beginning { packet, service: &service, device, pinned: false }, false, to)
}

#[inline(always)]
fn send<F: Network, B: Back>(xdp: *mut xdp_md, packet: &Packet<F::Address>, to: &Flow<F::Address>, way: &Way) -> u32 {
    if !rewrite::rewrite::<F>(xdp, packet, to, &way.macs) {
        count(Verdict::DropRewriteFailed);
        return XDP_DROP;
    }
    count(Verdict::XdpServed);
    // SAFETY: the context's own field.
    if B::TX && way.device == unsafe { (*xdp).ingress_ifindex } {
        return XDP_TX;
    }
    // SAFETY: a helper that only notes where the packet is to go.
    unsafe { bpf_redirect(way.device, 0) as u32 }
}
