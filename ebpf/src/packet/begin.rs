//! A flow begins: a backend is chosen, and what the backend sees of its client.

use millrace_common::{
    flow::{Flow, Tuple, state},
    scratch::Packet,
    select,
    service::{Attributes, outside_keeps_source},
    snat,
    verdict::Verdict,
};

use super::{
    Decision,
    entries::{Written, another_port, answered_by, write},
    flow,
    forward::Resumed,
    frame::Context,
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
