//! From the backend back to the client: the answer is given the address that the client named.

use aya_ebpf::bindings::BPF_NOEXIST;
use millrace_common::{
    address::protocol,
    flow::{Flow, Tuple, state},
    header::{Part, tcp},
    scratch::Packet,
    select,
    verdict::Verdict,
};

use super::{
    Decision,
    flow::{self, End},
    fragment,
    network::Network,
};
use crate::stats::count;

/// What becomes of a packet that may answer one of a flow: `node` tells whether with [`state::NODE`] or without.
#[inline(always)]
pub(super) fn decide<F: Network>(packet: &mut Packet<F::Address>, to: &mut Flow<F::Address>, node: bool) -> Decision {
    if !protocol::has_ports(packet.tuple.protocol) || (packet.part == Part::Tail && !fragment::ports::<F>(packet)) {
        return Decision::Pass;
    }
    packet.tuple.direction = Tuple::<F::Address>::REPLY;
    if let Some(entry) = known::<F>(packet, to, node) {
        flow::touch(entry, to, packet);
        count(Verdict::PacketReversed);
        return Decision::Send;
    }
    if answers_first(packet) { first::<F>(packet, to, node) } else { Decision::Pass }
}

/// The first answer to a connection says so: it agrees, or refuses. Most segments do neither, and are done with here.
#[inline(always)]
fn answers_first<A>(packet: &Packet<A>) -> bool {
    !protocol::connects(packet.tuple.protocol) || packet.part == Part::Tail || packet.kind & (tcp::SYN | tcp::RST) != 0
}

/// The entry of an established flow that the packet answers; its tuple is of direction REPLY.
#[inline(always)]
pub(super) fn known<F: Network>(
    packet: &Packet<F::Address>,
    to: &mut Flow<F::Address>,
    node: bool,
) -> Option<*mut Flow<F::Address>> {
    let entry = F::ct().get_ptr_mut(&packet.tuple)?;
    let ours = flow::read(entry, select::tag(&packet.tuple), to)
        && node == (to.state & state::NODE != 0)
        && !is_over::<F>(packet, to);
    if ours { Some(entry) } else { None }
}

/// A SYN among the answers of a connection that is over answers another one: from the same port, straight to the
/// backend, which no program noticed. A connection through the service would have replaced these entries.
#[inline(always)]
fn is_over<F: Network>(packet: &Packet<F::Address>, to: &Flow<F::Address>) -> bool {
    protocol::connects(packet.tuple.protocol) && packet.kind & tcp::SYN != 0 && give_way::<F>(packet, to)
}

#[inline(never)]
fn give_way<F: Network>(packet: &Packet<F::Address>, to: &Flow<F::Address>) -> bool {
    let beginning = flow::opposite(to, packet.tuple.protocol, Tuple::<F::Address>::FORWARD);
    // An entry that is alone has nobody left to answer.
    if F::ct().get_ptr(&beginning).is_some_and(|entry| !state::closed(to.state, flow::state_of(entry).0)) {
        return false;
    }
    let _ = F::ct().remove(&beginning);
    let _ = F::ct().remove(&packet.tuple);
    true
}

/// The first answer makes a flow an established one.
#[inline(never)]
pub(super) fn first<F: Network>(packet: &Packet<F::Address>, to: &mut Flow<F::Address>, node: bool) -> Decision {
    let Some(entry) = F::ct_new().get_ptr(&packet.tuple) else { return Decision::Pass };
    if !flow::read(entry, select::tag(&packet.tuple), to) || node != (to.state & state::NODE != 0) {
        return Decision::Pass;
    }
    let beginning = flow::opposite(to, packet.tuple.protocol, Tuple::<F::Address>::FORWARD);
    if protocol::connects(packet.tuple.protocol) && packet.kind & tcp::RST != 0 {
        // Nobody listens there: there is nothing to keep, and the next attempt may choose another backend.
        forget::<F>(packet, &beginning);
    } else if !promote::<F>(packet, &beginning, to) {
        // The entries stay where they are, so that the answer gets through when it is sent again and there is room.
        count(Verdict::DropTableFull);
        return Decision::Drop;
    }
    count(Verdict::PacketReversed);
    Decision::Send
}

#[inline(always)]
fn forget<F: Network>(packet: &Packet<F::Address>, beginning: &Tuple<F::Address>) {
    // Taken by the LRU already: just as well.
    let _ = F::ct_new().remove(beginning);
    let _ = F::ct_new().remove(&packet.tuple);
}

/// Moves both entries to where nothing is evicted: false if there is no room. `to` is the answers' entry.
#[inline(never)]
fn promote<F: Network>(packet: &Packet<F::Address>, beginning: &Tuple<F::Address>, to: &mut Flow<F::Address>) -> bool {
    if !leads_here::<F>(packet, beginning) {
        // A late answer of a backend that the flow has left: it is given its address, and that is all.
        return true;
    }
    to.last_seen = flow::now();
    to.state |= flow::bits(packet);
    // Refused because another CPU was first, with the same entry: see whether it is there.
    if F::ct().insert(&packet.tuple, &*to, BPF_NOEXIST as u64).is_err() && F::ct().get_ptr(&packet.tuple).is_none() {
        return false;
    }
    if !insert_forward::<F>(packet, beginning, to) {
        let _ = F::ct().remove(&packet.tuple);
        return false;
    }
    forget::<F>(packet, beginning);
    true
}

/// The flow still goes to the backend that answers, or its own entry was taken by the LRU.
#[inline(never)]
fn leads_here<F: Network>(packet: &Packet<F::Address>, beginning: &Tuple<F::Address>) -> bool {
    let client = End { address: &packet.tuple.destination, port: packet.tuple.destination_port };
    let backend = End { address: &packet.tuple.source, port: packet.tuple.source_port };
    F::ct_new().get_ptr(beginning).is_none_or(|entry| {
        flow::look(entry, select::tag(beginning), |entry| flow::turns_into(entry, client, backend)).unwrap_or(true)
    })
}

/// What the client's packets become follows from their answers: `to` is the answers' entry.
#[inline(never)]
fn insert_forward<F: Network>(
    packet: &Packet<F::Address>,
    beginning: &Tuple<F::Address>,
    to: &Flow<F::Address>,
) -> bool {
    let mut entry = *to;
    // Until the client takes up the answer.
    entry.state = to.state & state::OF_BOTH;
    flow::turn(&mut entry, packet, select::tag(beginning));
    F::ct().insert(beginning, &entry, BPF_NOEXIST as u64).is_ok() || F::ct().get_ptr(beginning).is_some()
}
