//! The per-packet path, on the host side of each pod's veth: the pod that is the client has its packets translated
//! here, in both directions. Each program is a decision about one packet and an act that carries it out.

mod begin;
mod flow;
mod forward;
mod fragment;
mod icmp;
mod network;
mod parse;
mod refuse;
mod reverse;
mod rewrite;
mod sweep;
mod turn;
mod v4;
mod v6;

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC},
    programs::TcContext,
};
use millrace_common::{
    flow::{Flow, Tuple},
    header::{Part, ether},
    scratch::{Packet, Scratch},
};

use crate::{
    family::{V4, V6},
    packet::{network::Network, parse::Shape},
};

pub(crate) use sweep::sweep;

/// Not ours, or done: other programs on the device run, then the stack routes the packet.
const NEXT: i32 = TC_ACT_UNSPEC;
const DROP: i32 = TC_ACT_SHOT;

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
        Some((ether::IPV4, l3)) => outgoing::<V4>(skb, l3),
        Some((ether::IPV6, l3)) => outgoing::<V6>(skb, l3),
        _ => NEXT,
    }
}

#[inline(always)]
pub(crate) fn to_pod(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    match network_header(ctx) {
        Some((ether::IPV4, l3)) => incoming::<V4>(skb, l3),
        Some((ether::IPV6, l3)) => incoming::<V6>(skb, l3),
        _ => NEXT,
    }
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

#[inline(never)]
fn outgoing<F: Network>(skb: *mut __sk_buff, l3: u32) -> i32 {
    let Some(scratch) = scratch::<F>() else { return NEXT };
    scratch.packet = Packet::at(l3);
    let decision = match parse::parse::<F>(skb, &mut scratch.packet) {
        Shape::Unreadable => return NEXT,
        Shape::Malformed => forward::malformed::<F>(&scratch.packet),
        Shape::Readable if icmp::is_error::<F>(&scratch.packet) => {
            let answers = scratch.packet.tuple.destination == F::LOOP;
            let direction = if answers { Tuple::<F::Address>::REPLY } else { Tuple::<F::Address>::FORWARD };
            return icmp::translate::<F>(skb, scratch, direction);
        }
        Shape::Readable => forward::decide::<F>(&mut scratch.packet, &mut scratch.to),
    };
    act::<F>(skb, &scratch.packet, decision, &scratch.to)
}

#[inline(never)]
fn incoming<F: Network>(skb: *mut __sk_buff, l3: u32) -> i32 {
    let Some(scratch) = scratch::<F>() else { return NEXT };
    scratch.packet = Packet::at(l3);
    if parse::parse::<F>(skb, &mut scratch.packet) != Shape::Readable {
        return NEXT;
    }
    if icmp::is_error::<F>(&scratch.packet) {
        return icmp::translate::<F>(skb, scratch, Tuple::<F::Address>::REPLY);
    }
    let decision = reverse::decide::<F>(&mut scratch.packet, &mut scratch.to);
    act::<F>(skb, &scratch.packet, decision, &scratch.to)
}

#[inline(always)]
fn scratch<F: Network>() -> Option<&'static mut Scratch<F::Address>> {
    // SAFETY: the map gave the pointer; the value is this CPU's own, and a program of these hooks runs to its end
    // before another starts on the CPU (bottom halves are off).
    F::scratch().get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}

#[inline(always)]
fn act<F: Network>(skb: *mut __sk_buff, packet: &Packet<F::Address>, decision: Decision, to: &Flow<F::Address>) -> i32 {
    match decision {
        Decision::Pass => NEXT,
        Decision::Drop => DROP,
        Decision::Refuse => refuse::refuse::<F>(skb, packet),
        Decision::Send | Decision::Turn => {
            if packet.part == Part::Head {
                fragment::remember::<F>(packet);
            }
            let verdict = rewrite::rewrite::<F>(skb, packet, to);
            if decision == Decision::Turn && verdict == NEXT { turn::around(skb) } else { verdict }
        }
    }
}
