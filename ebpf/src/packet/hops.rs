//! Hops: a packet that is sent on from here, past the stack, has one less, as if the stack had forwarded it.

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_csum_update};
use millrace_common::checksum::Sum;

use super::network::{Network, load, store};

/// Takes one hop off the packet whose network header is at `l3`. False if there is none left for the way on: the packet is
/// as it came, and its sender is to be told.
#[inline(always)]
pub(super) fn forwarded<F: Network>(skb: *mut __sk_buff, l3: u32) -> bool {
    let Some(old) = load::<u32>(skb, l3 + F::HOPS) else { return false };
    if F::hops(old) <= 1 {
        return false;
    }
    let new = F::forwarded(old, Sum::ZERO);
    if !store(skb, l3 + F::HOPS, &new) {
        return false;
    }
    if F::CHECKSUM.is_none() {
        // A sum over the whole packet that a device may have computed follows; IPv4's own checksum makes up for the hop.
        // SAFETY: a helper; it fails where there is no such sum.
        unsafe { bpf_csum_update(skb, Sum::ZERO.replace(old, new).folded32()) };
    }
    true
}
