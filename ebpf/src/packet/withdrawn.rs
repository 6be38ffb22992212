//! Whether a flow's frontend is still its service's, and its answers still come to this node: a node port may change, a VIP
//! go, or the node lose an address, while the service's backends serve on.

use core::ptr::{read_volatile, write_volatile};

use millrace_common::{
    flow::{Flow, state},
    scratch::Packet,
};

use super::network::Network;
use crate::{
    choose::{Found, find_frontend},
    maps::WITHDRAWALS,
    node,
};

/// True if what was withdrawn so far leaves the flow alone. The frontend is looked up once for each time that the agent
/// withdraws one, or an address: a busy flow does not pay for it.
#[inline(always)]
pub(super) fn leaves<F: Network>(
    packet: &Packet<F::Address>,
    entry: *mut Flow<F::Address>,
    known: &mut Flow<F::Address>,
) -> bool {
    // The frontend is not in the packet: its socket is asked instead.
    if known.state & state::PINNED != 0 {
        return true;
    }
    let Some(count) = WITHDRAWALS.get_ptr(0) else { return true };
    // SAFETY: the map gave the pointer. Volatile: the agent stores this word while we look.
    let count = unsafe { read_volatile(count) };
    state::is_stamped(known.state, count) || is_named_still::<F>(packet, entry, known, count)
}

/// `count` was read before the frontend: what is withdrawn meanwhile is seen by the next datagram.
#[inline(never)]
fn is_named_still<F: Network>(
    packet: &Packet<F::Address>,
    entry: *mut Flow<F::Address>,
    known: &mut Flow<F::Address>,
    count: u64,
) -> bool {
    let tuple = &packet.tuple;
    match find_frontend::<F>(tuple.destination, tuple.destination_port, tuple.protocol) {
        Found::Frontend(frontend) if frontend.service == known.service && node::is_answered::<F>(packet, known) => {
            known.state = state::stamped(known.state, count);
            // SAFETY: the map gave the pointer. If the element was handed to another key this very moment, that flow's
            // state is wrong once: it may be forgotten early, never misdirected.
            unsafe { write_volatile(&raw mut (*entry).state, known.state) };
            true
        }
        _ => false,
    }
}
