//! recvmsg() and getpeername(): the application sees the frontend that it named.

use aya_ebpf::programs::SockAddrContext;
use millrace_common::{
    address::{Addr6, Port, map, protocol, unmap},
    socket::Translation,
    verdict::Verdict,
};

use super::{
    ALLOW,
    address::{address4, address6, port, protocol, set4, set6},
    datagram,
};
use crate::{maps::SOCKETS, stats::count};

#[inline(always)]
pub(crate) fn reverse4(ctx: &SockAddrContext) -> i32 {
    if let Some((frontend, port)) = frontend(ctx, map(address4(ctx)))
        && let Some(frontend) = unmap(frontend)
    {
        set4(ctx, frontend, port);
    }
    ALLOW
}

#[inline(always)]
pub(crate) fn reverse6(ctx: &SockAddrContext) -> i32 {
    if let Some((frontend, port)) = frontend(ctx, address6(ctx)) {
        set6(ctx, frontend, port);
    }
    ALLOW
}

/// The frontend behind the backend that the kernel is about to report.
#[inline(always)]
fn frontend(ctx: &SockAddrContext, backend: Addr6) -> Option<(Addr6, Port)> {
    let port = port(ctx);
    let translation = match protocol(ctx) {
        protocol::UDP => datagram::named(ctx, backend, port)?,
        protocol::TCP => connected(ctx, backend, port)?,
        _ => return None,
    };
    count(Verdict::SocketReversed);
    Some((translation.frontend, translation.frontend_port))
}

#[inline(always)]
fn connected(ctx: &SockAddrContext, backend: Addr6, port: Port) -> Option<Translation> {
    // SAFETY: the context's socket is alive during the call; the pointer is the map's value or null.
    let stored = unsafe { SOCKETS.get_ptr_mut(ctx) };
    if stored.is_null() {
        return None;
    }
    // SAFETY: not null. A socket that was connected anew, elsewhere, no longer matches.
    let translation = unsafe { *stored };
    if translation.backend == backend && translation.backend_port == port { Some(translation) } else { None }
}
