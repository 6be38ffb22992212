//! Most packets of pods are nobody's business here: from pod to pod, or straight out. They are told from all others by a
//! glance at their headers, where they lie, and at two maps of marks ([`millrace_common::marks`]). Whatever is not
//! plain is looked at closely instead.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::bindings::__sk_buff;
use millrace_common::{
    address::{Port, protocol},
    flow::{Flow, Tuple, state},
    header::ether,
    marks::{self, Cell, Mark},
};

use super::{
    frame::{Buffer, Frame as _},
    network::Network,
};
use crate::maps::{ANSWER_MARKS, SERVICE_MARKS};

/// What a plain packet says of itself: its header has no options, and the ports follow.
pub(super) struct Plain<A> {
    pub source: A,
    pub destination: A,
    pub protocol: u8,
}

/// True for a packet that a pod sends, neither to a service nor as an answer to somebody who asked through one.
// A function of its own: its stack is free again for those who look closely.
#[inline(never)]
pub(super) fn leaves_as_it_is<F: Network>(skb: *mut __sk_buff) -> bool {
    let Some((plain, [port, _])) = plain::<F>(skb) else { return false };
    !may_be_a_services(marks::frontend(&plain.destination))
        && !may_be_a_services(marks::block(&plain.destination))
        && !are_expected(marks::answers(&plain.source, port, plain.protocol))
}

/// True for a packet that a pod is sent, and that does not answer what the pod asked of a service.
// A function of its own: its stack is free again for those who look closely.
#[inline(never)]
pub(super) fn arrives_as_it_is<F: Network>(skb: *mut __sk_buff) -> bool {
    plain::<F>(skb).is_some_and(|(plain, [port, _])| !may_be_awaited::<F>(&plain, port))
}

/// Answers to this flow will be looked at. To be said before the flow's first packet leaves.
#[inline(always)]
pub(super) fn expect<F: Network>(to: &Flow<F::Address>, answers: &Tuple<F::Address>) {
    let end = if to.state & state::NODE != 0 { &answers.source } else { &answers.destination };
    let cell = marks::answers(end, answers.source_port, answers.protocol);
    if let Some(byte) = place(cell)
        // SAFETY: as in `are_expected`.
        && unsafe { read_volatile(byte) } == 0
    {
        // SAFETY: as in `are_expected`; whoever writes there writes the same.
        unsafe { write_volatile(byte, 1) };
    }
}

/// True for a packet that may answer what the pod it goes to asked of a service.
#[inline(always)]
pub(super) fn may_be_awaited<F: Network>(plain: &Plain<F::Address>, port: Port) -> bool {
    are_expected(marks::answers(&plain.destination, port, plain.protocol))
}

#[inline(always)]
fn are_expected(cell: Cell) -> bool {
    // SAFETY: the map gave the pointer. Volatile: others write while we look.
    place(cell).is_none_or(|byte| unsafe { read_volatile(byte) } != 0)
}

#[inline(always)]
fn place(cell: Cell) -> Option<*mut u8> {
    let word = ANSWER_MARKS.get_ptr_mut(cell.word)?;
    // SAFETY: an element has eight bytes.
    Some(unsafe { word.cast::<u8>().add((cell.byte & 7) as usize) })
}

#[inline(always)]
pub(super) fn may_be_a_services(mark: Mark) -> bool {
    // SAFETY: the map gave the pointer. Volatile: the agent writes while we look.
    SERVICE_MARKS.get_ptr(mark.word).is_none_or(|word| mark.is_in(unsafe { read_volatile(word) }))
}

/// The ports with it, the source's first: only `None` if the packet must be read closely.
#[inline(always)]
pub(super) fn plain<F: Network>(skb: *mut __sk_buff) -> Option<(Plain<F::Address>, [Port; 2])> {
    let frame = Buffer::at_hand(skb);
    let plain = F::plain(frame.load(ether::HEADER)?)?;
    let ports: [u16; 2] = frame.load(ether::HEADER + F::HEADER)?;
    protocol::has_ports(plain.protocol).then_some((plain, ports.map(Port::from_network)))
}
