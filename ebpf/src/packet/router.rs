//! The router that clients came by, on a device over which no route of the node leads back to them. The kernel would look
//! for such a client on the link itself. Answers go to whom the client's packets came from.

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
        BPF_FIB_LOOKUP_OUTPUT,
    },
    helpers::bpf_redirect,
};
use millrace_common::{router::Router, scratch::Packet, verdict::Verdict};

use super::{
    DROP,
    deliver::Lookup,
    frame::Context,
    network::{Network, store},
};
use crate::{maps::ROUTERS, stats::count};

/// True if the answers to this client's packet must go to the router that it came by, which is remembered.
#[inline(never)]
pub(super) fn is_needed<F: Network, C: Context>(context: C, packet: &Packet<F::Address>, device: u32) -> bool {
    let mut lookup = Lookup::back::<F>(packet, device);
    match lookup.ask(context.raw(), BPF_FIB_LOOKUP_OUTPUT) {
        // For IPv6 the kernel may name the way over another device.
        BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_NO_NEIGH | BPF_FIB_LKUP_RET_FRAG_NEEDED
            if lookup.device == device =>
        {
            false
        }
        _ => remember(context, device),
    }
}

/// Written only if it is another: one device has one router, as a rule.
#[inline(always)]
fn remember<C: Context>(context: C, device: u32) -> bool {
    let Some([a, b, c, d, e, f]) = context.macs() else { return false };
    let router = Router { device, macs: [d, e, f, a, b, c] };
    // SAFETY: a copy; should the element be another's by now, it is not the same, and is written.
    if unsafe { ROUTERS.get(device) }.is_some_and(|known| *known == router) {
        return true;
    }
    ROUTERS.insert(device, router, 0).is_ok()
}

/// Sends the packet to the router that was remembered last for the device.
#[inline(always)]
pub(super) fn send(skb: *mut __sk_buff, device: u32) -> i32 {
    // SAFETY: a copy, which says itself whose it is: an element that was replaced may be another device's.
    if let Some(router) = unsafe { ROUTERS.get(device) }.copied()
        && router.device == device
        && store(skb, 0, &router.macs)
    {
        // SAFETY: a helper that only notes where the packet is to go.
        return unsafe { bpf_redirect(device, 0) as i32 };
    }
    count(Verdict::DropNoRoute);
    DROP
}
