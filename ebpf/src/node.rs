//! The node's own addresses, as the agent finds them. Asked for when a flow begins, never for one that is established.

use core::ptr::read_volatile;

use millrace_common::{
    flow::{Flow, state},
    scratch::Packet,
};

use crate::{family::Family, maps::NODE_ADDRESS};

/// As which address the node asks backends for clients outside, and uses services itself. `None`: it has none.
#[inline(always)]
pub(crate) fn address<F: Family>() -> Option<F::Address> {
    let first = NODE_ADDRESS.get_ptr(0)?;
    // SAFETY: the map gave the pointer. Volatile: the agent stores this word while we look.
    let current = unsafe { read_volatile(&raw const (*first).current) };
    let own = NODE_ADDRESS.get_ptr(current as u32)?;
    // SAFETY: the map gave the pointer. The agent writes what is not current, and waits for us before.
    let address = unsafe { read_volatile(F::own(own)) };
    if address == F::Address::default() { None } else { Some(address) }
}

/// True for an address that the node itself has, on whichever device.
#[inline(always)]
pub(crate) fn has<F: Family>(address: &F::Address) -> bool {
    F::node_addresses().get_ptr(address).is_some()
}

/// True if the backend's answers to what `packet` becomes come here: the node still has the address that stands in for the
/// client's.
#[inline(always)]
pub(crate) fn is_answered<F: Family>(packet: &Packet<F::Address>, to: &Flow<F::Address>) -> bool {
    to.state & state::NODE == 0 || to.source == packet.tuple.source || has::<F>(&to.source)
}
