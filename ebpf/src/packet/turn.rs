//! Back to where it came from: the pod is sent its own packet, or an answer to it.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS},
    helpers::bpf_redirect,
};
use millrace_common::verdict::Verdict;

use super::{
    DROP,
    hook::Hook,
    network::{load, store},
};
use crate::stats::count;

/// Swaps the MAC addresses and sends the packet out of the device that it came in by, or back into the node that was
/// about to send it.
#[inline(never)]
pub(super) fn around<H: Hook>(skb: *mut __sk_buff) -> i32 {
    if let Some([a, b, c, d, e, f]) = load::<[u16; 6]>(skb, 0)
        && store(skb, 0, &[d, e, f, a, b, c])
    {
        // SAFETY: the context's device; a helper that only notes where the packet is to go.
        return unsafe { bpf_redirect((*skb).ifindex, if H::EGRESS { BPF_F_INGRESS as u64 } else { 0 }) as i32 };
    }
    count(Verdict::DropRewriteFailed);
    DROP
}
