//! A flow begins: a backend is chosen and both entries are written, so that every packet of it, and every answer,
//! finds its way.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{bpf_get_prandom_u32, bpf_loop},
};
use millrace_common::{
    address::{Address, Port, protocol},
    flow::{Flow, Tuple, expired, idle, state, timeout},
    scratch::Packet,
    select,
    service::{Attributes, outside_keeps_source},
    snat,
    verdict::Verdict,
};

use super::{
    Decision,
    flow::{self, End},
    forward::Resumed,
    frame::Context,
    glance,
    hook::{Client, Hook},
    network::Network,
    router,
};
use crate::{
    choose::{Backend, NoBackend, Service, backend_alive},
    config, node,
    stats::count,
};

/// Backends that are tried where one may be on the node itself, which would not take the packet.
const ATTEMPTS: u32 = 4;

/// First and number of the ports of clients that keep their address.
const KEPT: (u32, u32) = (snat::FIRST_KEPT as u32, (snat::LAST_KEPT - snat::FIRST_KEPT) as u32 + 1);

/// A flow that was not answered yet goes where its first packet went, while that backend serves and its frontend is the
/// same `service`'s.
#[inline(never)]
pub(super) fn unanswered<F: Network>(packet: &Packet<F::Address>, to: &mut Flow<F::Address>, service: u32) -> Resumed {
    let Some(entry) = F::ct_new().get_ptr_mut(&packet.tuple) else { return Resumed::Unknown };
    if !flow::read(entry, select::tag(&packet.tuple), to) {
        return Resumed::Unknown;
    }
    let answers = flow::opposite(to, packet.tuple.protocol, Tuple::<F::Address>::REPLY);
    // The LRU may have taken one entry without the other; another flow may have taken the place of its answers.
    if to.service == service
        && backend_alive(to.backend, to.epoch)
        && node::is_answered::<F>(packet, to)
        && answered_by::<F>(&answers, packet)
    {
        flow::touch(entry, to, packet);
        count(Verdict::PacketForwarded);
        return Resumed::Yes;
    }
    let _ = F::ct_new().remove(&packet.tuple);
    Resumed::Over
}

/// True if answers with this key come back to the flow that `packet` belongs to.
#[inline(never)]
fn answered_by<F: Network>(answers: &Tuple<F::Address>, packet: &Packet<F::Address>) -> bool {
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

/// What a flow begins with.
pub(super) struct Beginning<'a, A> {
    pub packet: &'a Packet<A>,
    pub service: &'a Service,
    /// The device that the packet is on.
    pub device: u32,
    /// The packet names a backend that its socket has to leave.
    pub pinned: bool,
}

/// Chooses a backend and writes the entries.
#[inline(always)]
pub(super) fn begin<F: Network, H: Hook, C: Context>(
    context: C,
    beginning: &Beginning<'_, F::Address>,
    moved: bool,
    to: &mut Flow<F::Address>,
) -> Decision {
    let packet = beginning.packet;
    for attempt in 0..ATTEMPTS {
        match choose::<F, H>(beginning, to, attempt > 0) {
            Chosen::Backend => {}
            Chosen::None => break,
            Chosen::Unused => return Decision::Pass,
            Chosen::Reject => return Decision::Refuse,
            Chosen::Excluded => {
                count(Verdict::DropSourceRange);
                return Decision::Drop;
            }
            Chosen::Drop => {
                count(Verdict::DropNoLocalEndpoint);
                return Decision::Drop;
            }
            Chosen::Nameless => {
                count(Verdict::DropNoNodeAddress);
                return Decision::Drop;
            }
        }
        if H::CLIENT == Client::Host {
            if beginning.pinned {
                to.state |= state::PINNED;
            }
            // A socket that is connected to the backend already.
            if to.destination == packet.tuple.destination && to.destination_port == packet.tuple.destination_port {
                return Decision::Pass;
            }
            // The node would not take a packet from its own address off a wire.
            if node::has::<F>(&to.destination) {
                continue;
            }
        }
        if H::CLIENT == Client::Outside && router::is_needed::<F, C>(context, packet, beginning.device) {
            to.state |= state::ROUTER;
        }
        return match named::<F, H>(packet, to) {
            Written::Yes => {
                count(if moved { Verdict::PacketMoved } else { Verdict::PacketNewFlow });
                Decision::Send
            }
            Written::ByAnother => {
                count(Verdict::PacketForwarded);
                Decision::Send
            }
            Written::Ambiguous => {
                count(Verdict::DropNoPort);
                Decision::Drop
            }
            Written::Full => {
                count(Verdict::DropTableFull);
                Decision::Drop
            }
        };
    }
    // A call that is made anew has more to choose from: where the hooks serve it, no packet has to be led anywhere.
    Decision::Refuse
}

/// Writes the entries under the port that the backend is to see. The client's own, as a rule; another one where the client is
/// hidden behind the node's address, and where it talks from this port to the same backend through another frontend.
#[inline(always)]
fn named<F: Network, H: Hook>(packet: &Packet<F::Address>, to: &mut Flow<F::Address>) -> Written {
    if H::CLIENT == Client::Outside && to.source != packet.tuple.source {
        return another_port::<F>(packet, to, config::snat_ports());
    }
    let written = write::<F>(packet, to, true);
    let Written::Ambiguous = written else { return written };
    // The node's own ports are kept clear of these.
    let ports = if H::CLIENT == Client::Host { config::snat_ports() } else { KEPT };
    let written = another_port::<F>(packet, to, ports);
    if let Written::Yes = written {
        count(Verdict::FlowNewPort);
    }
    written
}

#[derive(Clone, Copy)]
enum Chosen {
    Backend,
    /// There is no other.
    None,
    Unused,
    Reject,
    Excluded,
    Drop,
    /// The backend would have nobody to answer.
    Nameless,
}

/// Fills in the forward entry for a chosen backend; for `another` one where the first would not do, which session affinity
/// does not allow.
#[inline(never)]
fn choose<F: Network, H: Hook>(
    beginning: &Beginning<'_, F::Address>,
    to: &mut Flow<F::Address>,
    another: bool,
) -> Chosen {
    let Beginning { packet, service, device, .. } = *beginning;
    if another && service.attributes.has(Attributes::AFFINITY) {
        return Chosen::None;
    }
    let chosen =
        if another { service.random::<F>() } else { service.choose::<F>(packet.tuple.source, Some(&packet.tuple)) };
    let backend: Backend<F::Address> = match chosen {
        Ok(backend) => backend,
        Err(NoBackend::Unused) => return Chosen::Unused,
        Err(NoBackend::Reject) => return Chosen::Reject,
        Err(NoBackend::Drop) => return Chosen::Drop,
        Err(NoBackend::Excluded) => return Chosen::Excluded,
    };
    let Some((source, state)) = source::<F, H>(packet, service, &backend) else { return Chosen::Nameless };
    let tag = select::tag(&packet.tuple);
    *to = Flow {
        head: tag,
        service: service.index,
        backend: backend.id,
        epoch: backend.epoch,
        source,
        destination: backend.address,
        source_port: packet.tuple.source_port,
        destination_port: backend.port,
        last_seen: flow::now(),
        state: state::SEEN | state,
        device: if H::CLIENT == Client::Outside { device } else { 0 },
        way: 0,
        reach: 0,
        tail: tag,
    };
    Chosen::Backend
}

/// The address that the backend sees, and [`state`] bits of the flow. `None`: the node has no address to ask it from.
#[inline(always)]
fn source<F: Network, H: Hook>(
    packet: &Packet<F::Address>,
    service: &Service,
    backend: &Backend<F::Address>,
) -> Option<(F::Address, u32)> {
    let client = packet.tuple.source;
    Some(match H::CLIENT {
        // A pod that is its own backend would take packets from its own address for a mistake, and answer itself: it
        // is given another address to answer to.
        Client::Pod if backend.address == client => (F::LOOP, state::HAIRPIN),
        Client::Pod => (client, 0),
        Client::Host => (client, state::NODE),
        // A backend on the node itself answers this way in any case.
        Client::Outside
            if outside_keeps_source(service.kind, service.attributes) || node::has::<F>(&backend.address) =>
        {
            (client, state::NODE)
        }
        Client::Outside => (node::address::<F>()?, state::NODE),
    })
}

#[derive(Clone, Copy)]
enum Written {
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
fn another_port<F: Network>(
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
fn write<F: Network>(packet: &Packet<F::Address>, to: &mut Flow<F::Address>, eager: bool) -> Written {
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
