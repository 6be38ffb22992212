//! The per-packet path. On the host side of each pod's veth, the pod that is the client has its packets translated, in
//! both directions. On the node's uplinks, clients from outside and the node's own processes have theirs; the answers
//! of these are translated wherever they reach the node. Each program is a decision about one packet and an act that
//! carries it out.

mod begin;
mod deliver;
mod entries;
mod flow;
mod forward;
mod fragment;
mod frame;
mod glance;
mod hook;
mod hops;
mod host_routing;
mod icmp;
mod network;
mod parse;
mod pinned;
mod refuse;
mod reverse;
mod rewrite;
mod router;
mod sweep;
mod turn;
mod v4;
mod v6;
mod withdrawn;
mod xdp;

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC},
    programs::TcContext,
};
use millrace_common::{
    flow::{Flow, Tuple, state},
    header::{Part, ether},
    scratch::{Packet, Scratch},
    verdict::Verdict,
};

use crate::{
    family::{V4, V6},
    packet::{
        deliver::{Found, Way},
        hook::{Client, FromPod, FromUplink, Hook, ToPod, ToUplink},
        icmp::About,
        network::Network,
        parse::Shape,
    },
    stats::count,
};

pub(crate) use sweep::sweep;
pub(crate) use xdp::{Redirect as XdpRedirect, Tx as XdpTx, from_uplink as xdp_from_uplink};

/// Not ours, or done: other programs on the device run, then the stack routes the packet.
const NEXT: i32 = TC_ACT_UNSPEC;
const DROP: i32 = TC_ACT_SHOT;
/// Of [`begun`] to [`onward`] only: done with, and for the stack if nobody knows a shorter way. No `TC_ACT_*`.
const ONWARD: i32 = 1 << 16;

/// What is to become of a packet. Whoever decides counts the verdict.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// Leave it as it is.
    Pass,
    /// Rewrite it, as the flow says.
    Send,
    /// Rewrite it and send it back to the pod that sent it: the client is its own backend.
    Turn,
    Drop,
    /// Answer that nobody is there.
    Refuse,
}

#[inline(always)]
pub(crate) fn from_pod(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    match network_header(ctx) {
        Some((ether::IPV4, l3)) => onward::<V4>(skb, l3),
        Some((ether::IPV6, l3)) => onward::<V6>(skb, l3),
        _ => NEXT,
    }
}

#[inline(always)]
pub(crate) fn from_uplink(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    if in_vlan(skb) {
        return NEXT;
    }
    match network_header(ctx) {
        Some((ether::IPV4, l3)) => begun::<V4, FromUplink>(skb, l3),
        Some((ether::IPV6, l3)) => begun::<V6, FromUplink>(skb, l3),
        _ => NEXT,
    }
}

#[inline(always)]
pub(crate) fn to_uplink(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // What came to the node by another device was seen there.
    // SAFETY: the context's own field.
    if unsafe { (*skb).ingress_ifindex } != 0 || in_vlan(skb) {
        return NEXT;
    }
    match network_header(ctx) {
        Some((ether::IPV4, l3)) => begun::<V4, ToUplink>(skb, l3),
        Some((ether::IPV6, l3)) => begun::<V6, ToUplink>(skb, l3),
        _ => NEXT,
    }
}

#[inline(always)]
pub(crate) fn to_pod(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    match network_header(ctx) {
        Some((ether::IPV4, l3)) => arriving::<V4>(skb, l3),
        Some((ether::IPV6, l3)) => arriving::<V6>(skb, l3),
        _ => NEXT,
    }
}

/// True for a packet of a VLAN that has a device of its own: that one is an uplink, or none. Number 0 is no VLAN but a
/// priority (IEEE 802.1Q).
#[inline(always)]
fn in_vlan(skb: *mut __sk_buff) -> bool {
    // SAFETY: the context's own fields.
    unsafe { (*skb).vlan_present != 0 && (*skb).vlan_tci & ether::VLAN_NUMBER != 0 }
}

/// EtherType and offset of the network header. The kernel keeps a VLAN tag beside the packet, as a rule; here it may
/// still lie in it.
#[inline(always)]
fn network_header(ctx: &TcContext) -> Option<(u16, u32)> {
    match ctx.skb.protocol() as u16 {
        ether::VLAN | ether::VLAN_OUTER => {
            let inner = ctx.load::<u16>(ether::HEADER as usize + 2).ok()?;
            Some((inner, ether::HEADER + ether::TAG))
        }
        protocol => Some((protocol, ether::HEADER)),
    }
}

/// A packet of a pod. Sent on from here, where the stack of those who looked at it is free again, and where the verifier
/// comes by once, whoever looked.
#[inline(always)]
fn onward<F: Network>(skb: *mut __sk_buff, l3: u32) -> i32 {
    let plain = l3 == ether::HEADER && glance::leaves_as_it_is::<F>(skb);
    match if plain { ONWARD } else { begun::<F, FromPod>(skb, l3) } {
        ONWARD => host_routing::send_on::<F>(skb),
        verdict => verdict,
    }
}

/// A packet that a pod is sent.
#[inline(always)]
fn arriving<F: Network>(skb: *mut __sk_buff, l3: u32) -> i32 {
    if l3 != ether::HEADER {
        return incoming::<F>(skb, l3);
    }
    // SAFETY: the context's own field; 0 for what a process of this node sends.
    if unsafe { (*skb).ingress_ifindex } == 0 && pinned::must_leave::<F>(skb) {
        return begun::<F, ToUplink>(skb, l3);
    }
    if glance::arrives_as_it_is::<F>(skb) { NEXT } else { incoming::<F>(skb, l3) }
}

/// A packet at a place where flows begin.
#[inline(never)]
fn begun<F: Network, H: Hook>(skb: *mut __sk_buff, l3: u32) -> i32 {
    let Some(scratch) = scratch::<F>() else { return NEXT };
    scratch.packet = Packet::at(l3);
    let decision = match parse::parse::<F>(skb, &mut scratch.packet) {
        Shape::Unreadable => return NEXT,
        Shape::Malformed => forward::malformed::<F>(&scratch.packet),
        Shape::Readable if icmp::is_error::<F>(&scratch.packet) => return error::<F, H>(skb, scratch),
        Shape::Readable => forward::decide::<F, H>(&mut scratch.packet, &mut scratch.to, skb),
    };
    act::<F, H>(skb, scratch, decision)
}

/// An ICMP error at a place where flows begin: about an answer to one of them, or about a packet of a client whose
/// answers are translated here.
#[inline(always)]
fn error<F: Network, H: Hook>(skb: *mut __sk_buff, scratch: &mut Scratch<F::Address>) -> i32 {
    let pod = H::CLIENT == Client::Pod;
    let answer = About { direction: Tuple::<F::Address>::FORWARD, node: !pod };
    let question = About { direction: Tuple::<F::Address>::REPLY, node: true };
    if pod && scratch.packet.tuple.destination == F::LOOP {
        return icmp::translate::<F, H>(skb, scratch, About { node: false, ..question }, None);
    }
    icmp::translate::<F, H>(skb, scratch, answer, Some(question))
}

#[inline(never)]
fn incoming<F: Network>(skb: *mut __sk_buff, l3: u32) -> i32 {
    let Some(scratch) = scratch::<F>() else { return NEXT };
    scratch.packet = Packet::at(l3);
    if parse::parse::<F>(skb, &mut scratch.packet) != Shape::Readable {
        return NEXT;
    }
    if icmp::is_error::<F>(&scratch.packet) {
        let question = About { direction: Tuple::<F::Address>::REPLY, node: false };
        return icmp::translate::<F, ToPod>(skb, scratch, question, None);
    }
    let decision = reverse::decide::<F>(&mut scratch.packet, &mut scratch.to, false);
    act::<F, ToPod>(skb, scratch, decision)
}

#[inline(always)]
fn scratch<F: Network>() -> Option<&'static mut Scratch<F::Address>> {
    // SAFETY: the map gave the pointer; the value is this CPU's own, and a program of these hooks runs to its end
    // before another starts on the CPU (bottom halves are off).
    F::scratch().get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}

#[inline(always)]
fn act<F: Network, H: Hook>(skb: *mut __sk_buff, scratch: &mut Scratch<F::Address>, decision: Decision) -> i32 {
    match decision {
        Decision::Pass if H::PAST => ONWARD,
        Decision::Pass => NEXT,
        Decision::Drop => DROP,
        Decision::Refuse => refuse::refuse::<F, H>(skb, scratch),
        Decision::Send => match send::<F, H>(skb, scratch) {
            NEXT if H::PAST => ONWARD,
            verdict => verdict,
        },
        Decision::Turn => match translate::<F>(skb, &scratch.packet, &scratch.to) {
            NEXT => turn::around::<H>(skb),
            verdict => verdict,
        },
    }
}

/// The way is found before the packet is rewritten: one that is too large is answered as it came.
// A function of its own: its stack is free again for those who look into errors.
#[inline(never)]
fn send<F: Network, H: Hook>(skb: *mut __sk_buff, scratch: &mut Scratch<F::Address>) -> i32 {
    let Scratch { packet, to, .. } = &*scratch;
    let mut way = Way::STACK;
    if H::NODE && to.state & state::NODE != 0 {
        match deliver::find::<F, H>(skb, packet, to, &mut way) {
            Found::Way => {}
            Found::TooBig => return refuse::too_big::<F, H>(skb, scratch, way.mtu),
            Found::Nowhere => {
                count(Verdict::DropNoRoute);
                return DROP;
            }
        }
    }
    // The stack counts hops itself, and what this node's own processes send has all of them.
    if !H::EGRESS && way.leads_on() && !hops::forwarded::<F>(skb, scratch.packet.l3) {
        return refuse::hops_used_up::<F, H>(skb, scratch);
    }
    match translate::<F>(skb, &scratch.packet, &scratch.to) {
        NEXT => way.take(skb),
        verdict => verdict,
    }
}

#[inline(always)]
fn translate<F: Network>(skb: *mut __sk_buff, packet: &Packet<F::Address>, to: &Flow<F::Address>) -> i32 {
    if packet.part == Part::Head {
        if rewrite::needs_the_rest::<F>(packet, to) {
            count(Verdict::DropSctpFragment);
            return DROP;
        }
        fragment::remember::<F>(packet);
    }
    rewrite::rewrite::<F>(skb, packet, to)
}
