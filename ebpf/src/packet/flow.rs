//! Entries of CT and CT_NEW: reading one safely, and marking that it was used.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use millrace_common::{
    address::{Address, Port, protocol},
    flow::{Flow, Tuple, state},
    header::tcp,
    scratch::Packet,
};

/// Copies the entry to `to`: false if it belongs to another key by now.
#[inline(always)]
pub(super) fn read<A: Address>(entry: *const Flow<A>, tag: u32, to: &mut Flow<A>) -> bool {
    look(entry, tag, |entry| {
        // Field by field: a copy of the whole would take its place on the stack, which is 512 bytes.
        // SAFETY: the map gave the pointer, and its memory stays a flow's for as long as the program runs.
        unsafe {
            to.head = tag;
            to.service = read_volatile(&raw const (*entry).service);
            to.backend = read_volatile(&raw const (*entry).backend);
            to.epoch = read_volatile(&raw const (*entry).epoch);
            to.source = read_volatile(&raw const (*entry).source);
            to.destination = read_volatile(&raw const (*entry).destination);
            to.source_port = read_volatile(&raw const (*entry).source_port);
            to.destination_port = read_volatile(&raw const (*entry).destination_port);
            to.last_seen = read_volatile(&raw const (*entry).last_seen);
            to.state = read_volatile(&raw const (*entry).state);
            to.device = read_volatile(&raw const (*entry).device);
            to.way = read_volatile(&raw const (*entry).way);
            to.reach = read_volatile(&raw const (*entry).reach);
            to.tail = tag;
        }
    })
    .is_some()
}

/// What `see` makes of the entry, unless it belongs to another key by now.
///
/// The kernel may hand a deleted element to another key at any time. Whoever writes it anew writes `head` first and
/// `tail` last (or the other way round): if both still fit after everything was read, nothing was written before.
/// `see` must read volatile, or its reads may be moved behind those.
#[inline(always)]
pub(super) fn look<A, T>(entry: *const Flow<A>, tag: u32, see: impl FnOnce(*const Flow<A>) -> T) -> Option<T> {
    let seen = see(entry);
    // SAFETY: as above.
    let ours =
        unsafe { read_volatile(&raw const (*entry).head) == tag && read_volatile(&raw const (*entry).tail) == tag };
    if ours { Some(seen) } else { None }
}

/// True if the entry turns a packet into one with these two ends.
#[inline(always)]
pub(super) fn turns_into<A: Address>(entry: *const Flow<A>, source: End<'_, A>, destination: End<'_, A>) -> bool {
    // SAFETY: as above.
    unsafe {
        read_volatile(&raw const (*entry).source_port) == source.port
            && read_volatile(&raw const (*entry).destination_port) == destination.port
            && read_volatile(&raw const (*entry).source) == *source.address
            && read_volatile(&raw const (*entry).destination) == *destination.address
    }
}

/// One end of a flow.
#[derive(Clone, Copy)]
pub(super) struct End<'a, A> {
    pub address: &'a A,
    pub port: Port,
}

/// Both ports as they lie in a header.
#[inline(always)]
pub(super) fn ports(source: Port, destination: Port) -> u32 {
    let ([a, b], [c, d]) = (source.network().to_ne_bytes(), destination.network().to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// Bits seen and the time, of an entry.
#[inline(always)]
pub(super) fn state_of<A>(entry: *const Flow<A>) -> (u32, u32) {
    // SAFETY: as above.
    unsafe { (read_volatile(&raw const (*entry).state), read_volatile(&raw const (*entry).last_seen)) }
}

/// The key of the packets that answer those which `flow` translates, or the other way round: `direction` is the one
/// of that key.
#[inline(always)]
pub(super) fn opposite<A: Address>(flow: &Flow<A>, protocol: u8, direction: u8) -> Tuple<A> {
    flow.translated(protocol, 0).reversed(direction)
}

/// Makes an entry of the direction opposite to `packet`: whoever answers is given the ends that `packet` came with,
/// the other way round.
#[inline(always)]
pub(super) fn turn<A: Address>(entry: &mut Flow<A>, packet: &Packet<A>, tag: u32) {
    entry.head = tag;
    entry.source = packet.tuple.destination;
    entry.destination = packet.tuple.source;
    entry.source_port = packet.tuple.destination_port;
    entry.destination_port = packet.tuple.source_port;
    // That of the other direction is another.
    entry.way = 0;
    entry.reach = 0;
    entry.tail = tag;
}

/// Notes what this packet says of the flow. Writes only what changed: a busy flow's cache line stays shared.
#[inline(always)]
pub(super) fn touch<A: Address>(entry: *mut Flow<A>, flow: &Flow<A>, packet: &Packet<A>) {
    let now = now();
    let mut seen = after(flow.state, packet);
    // SAFETY: the map gave the pointer. If the element was handed to another key this very moment, that flow's time or
    // state is wrong once: it may be forgotten early, never misdirected.
    unsafe {
        if now != flow.last_seen {
            seen |= state::LATER;
            write_volatile(&raw mut (*entry).last_seen, now);
        }
        if seen != flow.state {
            write_volatile(&raw mut (*entry).state, seen);
        }
    }
}

/// As [`touch`], for a flow that was touched a moment ago.
#[inline(always)]
pub(super) fn mark<A: Address>(entry: *mut Flow<A>, flow: &Flow<A>, packet: &Packet<A>) {
    let seen = after(flow.state, packet);
    if seen != flow.state {
        // SAFETY: as in `touch`.
        unsafe { write_volatile(&raw mut (*entry).state, seen) };
    }
}

/// An entry's state after a packet of its direction. Whoever sends on has not reset the connection: the reset was another's, or
/// the receiver found it wrong.
#[inline(always)]
fn after<A>(state: u32, packet: &Packet<A>) -> u32 {
    state & !state::RST | bits(packet)
}

/// [`state`] bits that a packet brings.
#[inline(always)]
pub(super) fn bits<A>(packet: &Packet<A>) -> u32 {
    let mut bits = state::SEEN;
    if protocol::connects(packet.tuple.protocol) {
        if packet.kind & tcp::FIN != 0 {
            bits |= state::FIN;
        }
        if packet.kind & tcp::RST != 0 {
            bits |= state::RST;
        }
    }
    bits
}

/// Seconds of CLOCK_MONOTONIC.
#[inline(always)]
pub(super) fn now() -> u32 {
    (clock() / 1_000_000_000) as u32
}

/// Nanoseconds of CLOCK_MONOTONIC, of the last tick.
#[inline(always)]
pub(super) fn clock() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}
