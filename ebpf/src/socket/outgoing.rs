//! connect() and sendmsg(): from the frontend that the application names to a backend.

use aya_ebpf::{
    helpers::{bpf_get_netns_cookie, bpf_set_retval},
    programs::SockAddrContext,
};
use millrace_common::{
    address::{Port, protocol, unmap},
    socket::{Connection, Translation},
    verdict::Verdict,
};

use super::{
    ALLOW, REFUSE,
    address::{self, set4, set6},
    connection, datagram, per_packet,
};
use crate::{
    choose::{Found, NoBackend, Service, find_frontend},
    config,
    family::{Family, V4, V6},
    node,
    stats::count,
};

/// The call is connect().
pub(crate) const CONNECT: bool = true;
/// The call is sendto() or sendmsg() on an unconnected UDP socket.
pub(crate) const SENDMSG: bool = false;

const ECONNREFUSED: i32 = 111;

/// What becomes of the call.
enum Outcome<A> {
    /// The address stays as it is.
    Leave,
    Send(A, Port),
    Refuse,
}

/// For connect4 and sendmsg4. sendmsg4 also runs for UDP sockets that speak IPv4 through IPv6.
#[inline(always)]
pub(crate) fn outgoing4<const CALL: bool>(ctx: &SockAddrContext) -> i32 {
    match outgoing::<V4, CALL>(ctx, address::address4(ctx)) {
        Outcome::Send(address, port) => set4(ctx, address, port),
        Outcome::Refuse => return refuse(),
        Outcome::Leave => {}
    }
    ALLOW
}

/// For connect6 and sendmsg6: IPv4-mapped addresses are served from the IPv4 maps.
#[inline(always)]
pub(crate) fn outgoing6<const CALL: bool>(ctx: &SockAddrContext) -> i32 {
    let named = address::address6(ctx);
    if let Some(named) = unmap(named) {
        match outgoing::<V4, CALL>(ctx, named) {
            Outcome::Send(address, port) => set6(ctx, V4::mapped(address), port),
            Outcome::Refuse => return refuse(),
            Outcome::Leave => {}
        }
        return ALLOW;
    }
    match outgoing::<V6, CALL>(ctx, named) {
        Outcome::Send(address, port) => set6(ctx, address, port),
        Outcome::Refuse => return refuse(),
        Outcome::Leave => {}
    }
    ALLOW
}

#[inline(always)]
fn refuse() -> i32 {
    count(Verdict::SocketRejected);
    // SAFETY: sets the errno of the call under way; allowed in connect and sendmsg programs.
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    REFUSE
}

#[inline(always)]
fn outgoing<F: Family, const CALL: bool>(ctx: &SockAddrContext, named: F::Address) -> Outcome<F::Address> {
    // The protocol, not the socket's type: ping sockets are datagram sockets too.
    let protocol = address::protocol(ctx);
    let udp = match protocol {
        protocol::TCP => false,
        protocol::UDP => true,
        _ => return Outcome::Leave,
    };
    let port = address::port(ctx);
    let frontend = find_frontend::<F>(named, port, protocol);
    if let Found::Nothing = frontend {
        // A connected socket that speaks IPv4 through IPv6 sends to its backend by name, the kernel does so.
        if udp && (CALL == CONNECT || !address::is_connected(ctx)) {
            datagram::forget(ctx, F::mapped(named), port);
        }
        return Outcome::Leave;
    }
    // SAFETY: the context of this call.
    let host = unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) } == config::host_netns_cookie();
    let ours = host || if udp { config::socket_lb_udp_for_pods() } else { config::socket_lb_for_pods() };
    if !ours {
        return Outcome::Leave;
    }
    if !host && per_packet::is_chosen() {
        count(Verdict::SocketPodExcluded);
        return Outcome::Leave;
    }
    let Found::Frontend(frontend) = frontend else { return Outcome::Refuse };
    let Some(service) = Service::from_inside(frontend) else { return Outcome::Refuse };
    if !host && service.needs_client_address() {
        return left_to_packets();
    }
    if udp && let Some(kept) = datagram::kept(ctx, F::mapped(named), port, service.index) {
        count(Verdict::SocketTranslated);
        return Outcome::Send(F::unmapped(kept.backend), kept.backend_port);
    }
    // A node without an address is a client like any other, whom no source range lets in.
    let client =
        if service.needs_client_address() { node::address::<F>().unwrap_or_default() } else { Default::default() };
    // Which port the flow will come from is not known yet.
    let backend = match service.choose::<F>(client, None) {
        Ok(backend) => backend,
        Err(NoBackend::Reject) => return Outcome::Refuse,
        // Silence is not a socket's to give: the packet goes out as it is and is dropped where packets are seen.
        Err(NoBackend::Drop | NoBackend::Excluded | NoBackend::Unused) => return left_to_packets(),
    };
    if udp {
        let translation = Translation {
            frontend: F::mapped(named),
            backend: F::mapped(backend.address),
            frontend_port: port,
            backend_port: backend.port,
            service: service.index,
            backend_id: backend.id,
            epoch: backend.epoch,
        };
        datagram::keep(ctx, translation);
    } else if CALL == CONNECT {
        let connection = Connection {
            frontend: F::mapped(named),
            backend: F::mapped(backend.address),
            frontend_port: port,
            backend_port: backend.port,
        };
        connection::keep(ctx, connection);
    }
    count(Verdict::SocketTranslated);
    Outcome::Send(backend.address, backend.port)
}

#[inline(always)]
fn left_to_packets<A>() -> Outcome<A> {
    count(Verdict::SocketLeftToPackets);
    Outcome::Leave
}
