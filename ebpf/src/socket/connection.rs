//! TCP: the frontend that a socket named is kept from connect() until the socket is closed, for getpeername().

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_get_socket_cookie,
    programs::{SockAddrContext, SockContext},
};
use millrace_common::{
    address::{Addr6, Port, protocol},
    socket::Connection,
};

use super::ALLOW;
use crate::maps::SOCKETS;

/// Without room for it the connection works all the same, and shows its backend.
#[inline(always)]
pub(super) fn keep(ctx: &SockAddrContext, connection: Connection) {
    let _ = SOCKETS.insert(cookie(ctx), connection, 0);
}

/// The frontend of the connection to this backend. A socket that was connected anew, elsewhere, has none.
#[inline(always)]
pub(super) fn named(ctx: &SockAddrContext, backend: Addr6, port: Port) -> Option<(Addr6, Port)> {
    // SAFETY: should the element be given to another socket meanwhile, its backend is compared below.
    let connection = unsafe { *SOCKETS.get(cookie(ctx))? };
    if connection.backend == backend && connection.backend_port == port {
        return Some((connection.frontend, connection.frontend_port));
    }
    None
}

/// Runs for every socket that is closed: whatever it costs, connections of others pay too.
#[inline(always)]
pub(crate) fn released(ctx: &SockContext) -> i32 {
    // SAFETY: the kernel hands a valid socket.
    if unsafe { (*ctx.sock).protocol } == u32::from(protocol::TCP) {
        // Most sockets have no entry.
        let _ = SOCKETS.remove(cookie(ctx));
    }
    ALLOW
}

/// Never 0, and never given to another socket while the kernel runs.
#[inline(always)]
fn cookie(ctx: &impl EbpfContext) -> u64 {
    // SAFETY: the context of this call, of a kind that has a socket.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}
