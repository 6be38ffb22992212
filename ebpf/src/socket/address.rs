//! Reading and writing `struct bpf_sock_addr`. The verifier allows only certain widths of access to its fields
//! (kernel: net/core/filter.c, `sock_addr_is_valid_access`), so each access is spelled out, and volatile so that the
//! compiler does not merge them.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::programs::SockAddrContext;
use millrace_common::address::{Addr4, Addr6, Port};

#[inline(always)]
pub(super) fn protocol(ctx: &SockAddrContext) -> u8 {
    // SAFETY: the kernel hands a valid context; all fields may be read.
    unsafe { read_volatile(&raw const (*ctx.sock_addr).protocol) as u8 }
}

#[inline(always)]
pub(super) fn port(ctx: &SockAddrContext) -> Port {
    // SAFETY: as above.
    Port::from_network(unsafe { read_volatile(&raw const (*ctx.sock_addr).user_port) } as u16)
}

/// Whether the call's socket is connected already.
#[inline(always)]
pub(super) fn is_connected(ctx: &SockAddrContext) -> bool {
    /// `TCP_ESTABLISHED` (net/tcp_states.h), which UDP sockets use, too.
    const ESTABLISHED: u32 = 1;
    // SAFETY: as above; a socket is always there.
    unsafe {
        let socket = read_volatile(&raw const (*ctx.sock_addr).__bindgen_anon_1.sk);
        read_volatile(&raw const (*socket).state) == ESTABLISHED
    }
}

#[inline(always)]
pub(super) fn address4(ctx: &SockAddrContext) -> Addr4 {
    // SAFETY: as above.
    [unsafe { read_volatile(&raw const (*ctx.sock_addr).user_ip4) }]
}

#[inline(always)]
pub(super) fn address6(ctx: &SockAddrContext) -> Addr6 {
    // SAFETY: as above; connect6, sendmsg6, recvmsg6 and getpeername6 may read it.
    unsafe {
        let words = &raw const (*ctx.sock_addr).user_ip6;
        let words = words.cast::<u32>();
        [read_volatile(words), read_volatile(words.add(1)), read_volatile(words.add(2)), read_volatile(words.add(3))]
    }
}

#[inline(always)]
pub(super) fn set4(ctx: &SockAddrContext, address: Addr4, port: Port) {
    // SAFETY: user_ip4 and user_port may be written, four bytes at a time.
    unsafe {
        write_volatile(&raw mut (*ctx.sock_addr).user_ip4, address[0]);
        write_volatile(&raw mut (*ctx.sock_addr).user_port, port.network() as u32);
    }
}

#[inline(always)]
pub(super) fn set6(ctx: &SockAddrContext, address: Addr6, port: Port) {
    // SAFETY: user_ip6 and user_port may be written, four bytes at a time.
    unsafe {
        let words = &raw mut (*ctx.sock_addr).user_ip6;
        let words = words.cast::<u32>();
        write_volatile(words, address[0]);
        write_volatile(words.add(1), address[1]);
        write_volatile(words.add(2), address[2]);
        write_volatile(words.add(3), address[3]);
        write_volatile(&raw mut (*ctx.sock_addr).user_port, port.network() as u32);
    }
}
