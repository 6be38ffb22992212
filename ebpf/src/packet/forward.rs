//! From the client to the service: what becomes of a packet at a place where flows begin.

use aya_ebpf::{bindings::__sk_buff, maps::lpm_trie::Key};
use millrace_common::{
    address::{Address, Port, protocol},
    flow::{Flow, Tuple, state},
    header::{Part, tcp},
    marks,
    scratch::Packet,
    select,
    verdict::Verdict,
};

use super::{
    Decision,
    begin::{self, Beginning},
    flow, fragment, glance,
    hook::{Client, Hook},
    network::Network,
    pinned::{self, Left, unpacked},
    reverse, withdrawn,
};
use crate::{
    choose::{Found, Service, backend_alive, find_frontend},
    config, node,
    stats::count,
};

/// What becomes of the packet that was read from `skb`.
#[inline(always)]
pub(super) fn decide<F: Network, H: Hook>(
    packet: &mut Packet<F::Address>,
    to: &mut Flow<F::Address>,
    skb: *mut __sk_buff,
) -> Decision {
    if !protocol::has_ports(packet.tuple.protocol) {
        return other::<F>(packet);
    }
    if packet.part == Part::Tail && !fragment::ports::<F>(packet) {
        return headless::<F>(packet);
    }
    if H::CLIENT == Client::Pod && packet.tuple.destination == F::LOOP {
        return match reverse::decide::<F>(packet, to, false) {
            Decision::Send => Decision::Turn,
            decision => decision,
        };
    }
    let decision = from_client::<F, H>(packet, to, skb);
    if decision == Decision::Send && to.state & state::HAIRPIN != 0 { Decision::Turn } else { decision }
}

/// A protocol that no service speaks: an echo request, or a tunnel's packet, to a service's address finds nobody. Every
/// other ICMP message is left alone.
#[inline(never)]
fn other<F: Network>(packet: &Packet<F::Address>) -> Decision {
    let tuple = &packet.tuple;
    if tuple.protocol == F::ICMP && packet.kind != F::ECHO_REQUEST {
        return Decision::Pass;
    }
    if owned::<F>(tuple.destination) { Decision::Refuse } else { unowned::<F>(tuple.destination) }
}

/// True for a packet that is an answer as a rule, and no client's: its answers' entry is looked for first.
#[inline(always)]
pub(super) fn answers_rather<F: Network, H: Hook>(packet: &Packet<F::Address>) -> bool {
    let tuple = &packet.tuple;
    let likely = match H::CLIENT {
        // Ports that hide clients; a pod's host port may be one of them.
        Client::Outside => {
            config::is_snat_port(tuple.destination_port) && node::address::<F>() == Some(tuple.destination)
        }
        // What a service has is marked.
        Client::Pod => !glance::may_be_a_services(marks::frontend(&tuple.destination)),
        Client::Host => false,
    };
    likely && !begins(packet)
}

/// A connection's first segment, which is no answer.
#[inline(always)]
fn begins<A>(packet: &Packet<A>) -> bool {
    protocol::connects(packet.tuple.protocol) && tcp::opens(packet.kind)
}

/// A packet of a known flow costs one lookup; everything else is decided at leisure.
#[inline(always)]
fn from_client<F: Network, H: Hook>(
    packet: &mut Packet<F::Address>,
    to: &mut Flow<F::Address>,
    skb: *mut __sk_buff,
) -> Decision {
    let rather = answers_rather::<F, H>(packet);
    if rather {
        let decision = answers::<F>(packet, to);
        if decision != Decision::Pass {
            return decision;
        }
    }
    if let Some(entry) = known::<F>(packet, to)
        && (H::CLIENT != Client::Host || is_still::<F>(skb, packet, to))
    {
        flow::touch(entry, to, packet);
        count(Verdict::PacketForwarded);
        return Decision::Send;
    }
    if !rather && !begins(packet) {
        let decision = answers::<F>(packet, to);
        if decision != Decision::Pass {
            return decision;
        }
    }
    if is_middle(packet) { middle::<F>(packet, to) } else { unknown::<F, H>(packet, to, skb) }
}

/// False for a pinned flow of a socket that has been closed, or whose frontend has been given to another service.
#[inline(always)]
fn is_still<F: Network>(skb: *mut __sk_buff, packet: &Packet<F::Address>, to: &Flow<F::Address>) -> bool {
    to.state & state::PINNED == 0
        || matches!(unpacked(pinned::left::<F>(skb, &packet.tuple)), Left::Frontend(now) if now.service == to.service)
}

#[inline(always)]
fn answers<F: Network>(packet: &mut Packet<F::Address>, to: &mut Flow<F::Address>) -> Decision {
    let decision = reverse::decide::<F>(packet, to, true);
    if decision == Decision::Pass {
        packet.tuple.direction = Tuple::<F::Address>::FORWARD;
    }
    decision
}

/// A segment, in one piece or at the head of one, that begins nothing.
#[inline(always)]
fn is_middle<A>(packet: &Packet<A>) -> bool {
    protocol::connects(packet.tuple.protocol) && !tcp::opens(packet.kind) && packet.part != Part::Tail
}

/// A segment of no established connection: most of them are of pods that talk to each other, so this is the way that must
/// be short. To an address of the service range that no service has it is left alone: the SYN before it was not.
#[inline(never)]
fn middle<F: Network>(packet: &Packet<F::Address>, to: &mut Flow<F::Address>) -> Decision {
    let tuple = &packet.tuple;
    match find_frontend::<F>(tuple.destination, tuple.destination_port, tuple.protocol) {
        // A client may give up before it is answered.
        Found::Frontend(frontend) if begin::unanswered::<F>(packet, to, frontend.service) == Resumed::Yes => {
            Decision::Send
        }
        Found::Frontend(_) => {
            count(Verdict::PassUnknownSegment);
            Decision::Pass
        }
        Found::OtherPort => Decision::Refuse,
        Found::Nothing => Decision::Pass,
    }
}

/// The entry of an established flow that the packet goes on with.
#[inline(always)]
pub(super) fn known<F: Network>(
    packet: &Packet<F::Address>,
    to: &mut Flow<F::Address>,
) -> Option<*mut Flow<F::Address>> {
    let entry = F::ct().get_ptr_mut(&packet.tuple)?;
    if flow::read(entry, select::tag(&packet.tuple), to) && goes_on::<F>(packet, entry, to) {
        Some(entry)
    } else {
        None
    }
}

/// A datagram goes where its flow went while that backend serves, behind that frontend. A connection goes on until it
/// ends; a SYN may be the beginning of another one.
#[inline(always)]
fn goes_on<F: Network>(
    packet: &Packet<F::Address>,
    entry: *mut Flow<F::Address>,
    known: &mut Flow<F::Address>,
) -> bool {
    if packet.tuple.protocol == protocol::UDP {
        backend_alive(known.backend, known.epoch) && withdrawn::leaves::<F>(packet, entry, known)
    } else {
        !tcp::opens(packet.kind)
    }
}

#[inline(never)]
fn unknown<F: Network, H: Hook>(
    packet: &Packet<F::Address>,
    to: &mut Flow<F::Address>,
    skb: *mut __sk_buff,
) -> Decision {
    let mut pinned = false;
    let frontend =
        match find_frontend::<F>(packet.tuple.destination, packet.tuple.destination_port, packet.tuple.protocol) {
            Found::Frontend(frontend) => frontend,
            Found::OtherPort => return Decision::Refuse,
            Found::Nothing if H::CLIENT == Client::Host => match unpacked(pinned::left::<F>(skb, &packet.tuple)) {
                Left::AsItWas => return unowned::<F>(packet.tuple.destination),
                Left::Frontend(frontend) => {
                    pinned = true;
                    frontend
                }
                Left::Nothing => {
                    count(Verdict::DropNoSuchService);
                    return Decision::Drop;
                }
            },
            Found::Nothing => return unowned::<F>(packet.tuple.destination),
        };
    let moved = match resume::<F>(packet, to, frontend.service) {
        Resumed::Yes => return Decision::Send,
        Resumed::Over => true,
        Resumed::Unknown => false,
    };
    let moved = match begin::unanswered::<F>(packet, to, frontend.service) {
        Resumed::Yes => return Decision::Send,
        Resumed::Over => true,
        Resumed::Unknown => moved,
    };
    if packet.part == Part::Tail {
        count(Verdict::DropFragmentWithoutHead);
        return Decision::Drop;
    }
    let service = match H::CLIENT {
        Client::Pod | Client::Host => Service::from_inside(frontend),
        Client::Outside => Service::from_outside(frontend),
    };
    let Some(service) = service else { return Decision::Drop };
    // SAFETY: the context's own field.
    let beginning = Beginning { packet, service: &service, device: unsafe { (*skb).ifindex }, pinned };
    begin::begin::<F, H, _>(skb, &beginning, moved, to)
}

/// Whether a packet goes on with a flow that has entries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Resumed {
    Yes,
    /// It had entries, and they are gone now: its backend no longer serves, or the connection was over.
    Over,
    Unknown,
}

/// A SYN on a connection that has entries: sent again, or a new connection from the same port.
#[inline(never)]
fn resume<F: Network>(packet: &Packet<F::Address>, to: &mut Flow<F::Address>, service: u32) -> Resumed {
    let Some(entry) = F::ct().get_ptr(&packet.tuple) else { return Resumed::Unknown };
    if !flow::read(entry, select::tag(&packet.tuple), to) {
        return Resumed::Unknown;
    }
    let answers = flow::opposite(to, packet.tuple.protocol, Tuple::<F::Address>::REPLY);
    let answered = F::ct().get_ptr(&answers).map_or(0, |entry| flow::state_of(entry).0);
    if protocol::connects(packet.tuple.protocol)
        && to.service == service
        && !state::closed(to.state, answered)
        && backend_alive(to.backend, to.epoch)
    {
        // What keeps the flow is the answer: anybody may send a SYN again.
        count(Verdict::PacketForwarded);
        return Resumed::Yes;
    }
    // Gone already, on another CPU: just as well.
    let _ = F::ct().remove(&packet.tuple);
    let _ = F::ct().remove(&answers);
    Resumed::Over
}

/// A packet to an address that no service has.
#[inline(always)]
fn unowned<F: Network>(destination: F::Address) -> Decision {
    if in_service_range::<F>(destination) {
        count(Verdict::DropNoSuchService);
        return Decision::Drop;
    }
    Decision::Pass
}

#[inline(always)]
fn in_service_range<F: Network>(destination: F::Address) -> bool {
    F::service_cidrs().get(Key::new(<F::Address as Address>::WORDS as u32 * 32, destination)).is_some()
}

/// True for an address that services own, whatever the port.
#[inline(always)]
fn owned<F: Network>(destination: F::Address) -> bool {
    // Protocol 0 has no frontend, so that only the mark is found.
    matches!(find_frontend::<F>(destination, Port::ANY, 0), Found::Frontend(_) | Found::OtherPort)
}

/// A packet whose headers make no sense: not for a service to see.
#[inline(never)]
pub(super) fn malformed<F: Network>(packet: &Packet<F::Address>) -> Decision {
    if owned::<F>(packet.tuple.destination) || in_service_range::<F>(packet.tuple.destination) {
        count(Verdict::DropMalformed);
        return Decision::Drop;
    }
    Decision::Pass
}

/// A fragment whose head was not seen, or was not a service's.
#[inline(never)]
fn headless<F: Network>(packet: &Packet<F::Address>) -> Decision {
    if owned::<F>(packet.tuple.destination) || in_service_range::<F>(packet.tuple.destination) {
        count(Verdict::DropFragmentWithoutHead);
        return Decision::Drop;
    }
    Decision::Pass
}
