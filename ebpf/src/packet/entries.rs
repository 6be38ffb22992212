//! Both entries of a flow that begins, so that every packet of it, and every answer, finds its way: whether the answers can be
//! told from another flow's, and the port that they come to.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{bpf_get_prandom_u32, bpf_loop},
};
use millrace_common::{
    address::{Address, Port, protocol},
    flow::{Flow, Tuple, expired, idle, state, timeout},
    scratch::Packet,
    select, snat,
};

use super::{
    flow::{self, End},
    glance,
    network::Network,
};
use crate::choose::backend_alive;

/// True if answers with this key come back to the flow that `packet` belongs to.
#[inline(never)]
pub(super) fn answered_by<F: Network>(answers: &Tuple<F::Address>, packet: &Packet<F::Address>) -> bool {
    let tag = select::tag(answers);
    let ours = |entry| flow::look(entry, tag, |entry| is_answer_to(entry, packet)).unwrap_or(false);
    F::ct().get_ptr(answers).is_some_and(ours) || F::ct_new().get_ptr(answers).is_some_and(ours)
}

/// The entry gives answers the addresses that the client knows.
#[inline(always)]
fn is_answer_to<A: Address>(entry: *const Flow<A>, packet: &Packet<A>) -> bool {
    let tuple = &packet.tuple;
    let named = End { address: &tuple.destination, port: tuple.destination_port };
    let client = End { address: &tuple.source, port: tuple.source_port };
    flow::turns_into(entry, named, client)
}

/// What became of an attempt to write both entries.
#[derive(Clone, Copy)]
pub(super) enum Written {
    Yes,
    /// Another CPU was first: `to` is what it chose.
    ByAnother,
    /// The answers could not be told from another flow's, whatever port the flow was given.
    Ambiguous,
    Full,
}

/// A search for a port.
#[repr(C)]
struct Search<A> {
    packet: *const Packet<A>,
    to: *mut Flow<A>,
    /// Of the ports that may be tried.
    first: u32,
    count: u32,
    random: u32,
    written: Written,
}

/// Writes the entries of a flow from a port that no other flow of its address to the same backend has. The entry of its
/// answers is the reservation.
#[inline(never)]
pub(super) fn another_port<F: Network>(
    packet: &Packet<F::Address>,
    to: &mut Flow<F::Address>,
    (first, count): (u32, u32),
) -> Written {
    // SAFETY: a helper without arguments.
    let random = unsafe { bpf_get_prandom_u32() };
    let mut search = Search { packet, to, first, count, random, written: Written::Ambiguous };
    let callback = probe::<F> as *mut c_void;
    // SAFETY: `probe` has the signature that the kernel calls, and `search` outlives the call.
    unsafe { bpf_loop(snat::PROBES, callback, (&raw mut search).cast(), 0) };
    search.written
}

/// Tries one port; 1 ends the search.
extern "C" fn probe<F: Network>(number: u32, search: *mut Search<F::Address>) -> i64 {
    // SAFETY: the kernel hands out our own context, alive during the call, with what its maker borrowed.
    let (search, packet, to) = unsafe { (&mut *search, &*(*search).packet, &mut *(*search).to) };
    to.source_port = Port::new(snat::port(search.first, search.count, search.random, number));
    // Ports of connections that are over, whose last segments may still be on their way, only when others are rare.
    search.written = write::<F>(packet, to, number >= snat::PROBES / 2);
    !matches!(search.written, Written::Ambiguous) as i64
}

/// The answers' entry first: no packet may leave whose answer would not find its way. `eager`: an old flow with the same
/// answers gives way as soon as it is over.
#[inline(never)]
pub(super) fn write<F: Network>(packet: &Packet<F::Address>, to: &mut Flow<F::Address>, eager: bool) -> Written {
    let answers = flow::opposite(to, packet.tuple.protocol, Tuple::<F::Address>::REPLY);
    glance::expect::<F>(to, &answers);
    let flags = match place::<F>(&answers, packet, eager) {
        Place::Free => BPF_NOEXIST,
        Place::Ours => BPF_ANY,
        Place::Taken => return Written::Ambiguous,
    };
    if !insert_answers::<F>(&answers, packet, to, flags) && !answered_by::<F>(&answers, packet) {
        return if F::ct_new().get_ptr(&answers).is_some() { Written::Ambiguous } else { Written::Full };
    }
    // A flow with the same answers may have been established since they were found free.
    if F::ct().get_ptr(&answers).is_some() {
        let _ = F::ct_new().remove(&answers);
        return Written::Ambiguous;
    }
    if F::ct_new().insert(&packet.tuple, &*to, BPF_NOEXIST as u64).is_ok() {
        return Written::Yes;
    }
    lost::<F>(packet, &answers, to)
}

#[inline(never)]
fn insert_answers<F: Network>(
    answers: &Tuple<F::Address>,
    packet: &Packet<F::Address>,
    to: &Flow<F::Address>,
    flags: u32,
) -> bool {
    let mut entry = *to;
    // Not seen yet.
    entry.state &= !state::SEEN;
    flow::turn(&mut entry, packet, select::tag(answers));
    F::ct_new().insert(answers, &entry, flags as u64).is_ok()
}

/// The forward entry could not be written: by another CPU's leave or for want of memory. Its choice is taken over.
#[inline(never)]
fn lost<F: Network>(packet: &Packet<F::Address>, answers: &Tuple<F::Address>, to: &mut Flow<F::Address>) -> Written {
    let winner = F::ct_new().get_ptr(&packet.tuple);
    let won = winner.is_some_and(|entry| flow::read(entry, select::tag(&packet.tuple), to));
    // The same choice, of the backend and the port, has the same answers' entry.
    if !won
        || to.destination != answers.source
        || to.destination_port != answers.source_port
        || to.source != answers.destination
        || to.source_port != answers.destination_port
    {
        let _ = F::ct_new().remove(answers);
    }
    if won { Written::ByAnother } else { Written::Full }
}

#[derive(Clone, Copy)]
enum Place {
    Free,
    /// There are answers of this very flow, left over or written this moment by another CPU.
    Ours,
    /// They are another flow's.
    Taken,
}

/// Whether answers with this key can be this flow's. Another flow of the same client, from the same port to the same
/// backend through another frontend, has the same answers; it gives way when it is over, never while it lives.
#[inline(never)]
fn place<F: Network>(answers: &Tuple<F::Address>, packet: &Packet<F::Address>, eager: bool) -> Place {
    let tag = select::tag(answers);
    if let Some(entry) = F::ct().get_ptr(answers) {
        if flow::look(entry, tag, |entry| is_answer_to(entry, packet)) != Some(true)
            && !give_way::<F>(answers, entry, eager)
        {
            return Place::Taken;
        }
        // Left over by a flow that was forgotten.
        let _ = F::ct().remove(answers);
    }
    let Some(entry) = F::ct_new().get_ptr(answers) else { return Place::Free };
    let (_, seen) = flow::state_of(entry);
    if flow::look(entry, tag, |entry| is_answer_to(entry, packet)) == Some(true)
        || idle(flow::now(), seen, timeout::UNANSWERED)
    {
        Place::Ours
    } else {
        Place::Taken
    }
}

/// Forgets an established flow, found by its answers' entry, if it is over.
#[inline(never)]
fn give_way<F: Network>(answers: &Tuple<F::Address>, entry: *const Flow<F::Address>, eager: bool) -> bool {
    let mut flow = Flow::default();
    if !flow::read(entry, select::tag(answers), &mut flow) {
        return true;
    }
    let beginning = flow::opposite(&flow, answers.protocol, Tuple::<F::Address>::FORWARD);
    if let Some(forward) = F::ct().get_ptr(&beginning) {
        let (mine, forward) = ((flow.state, flow.last_seen), flow::state_of(forward));
        // Datagrams are moved from a backend that no longer serves; connections stay with it until they end.
        let left = answers.protocol == protocol::UDP && !backend_alive(flow.backend, flow.epoch);
        let closed = eager && state::closed(mine.0, forward.0);
        if !left && !closed && !expired(flow::now(), answers.protocol, mine, Some(forward)) {
            return false;
        }
    }
    let _ = F::ct().remove(&beginning);
    true
}
