//! recvmsg() and getpeername(): the application sees the frontend that it named.

use aya_ebpf::programs::SockAddrContext;
use millrace_common::{
    address::{Addr6, Port, map, protocol, unmap},
    verdict::Verdict,
};

use super::{
    ALLOW,
    address::{address4, address6, port, protocol, set4, set6},
    connection, datagram,
};
use crate::stats::count;

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
    let named = match protocol(ctx) {
        protocol::UDP => datagram::named(ctx, backend, port).map(|t| (t.frontend, t.frontend_port))?,
        protocol::TCP => connection::named(ctx, backend, port)?,
        _ => return None,
    };
    count(Verdict::SocketReversed);
    Some(named)
}
