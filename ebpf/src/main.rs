//! millrace's eBPF programs. Entry points are three lines: they name a hook, call the stage that serves it, and
//! return its verdict. What a program does stands in the module of that stage.
#![no_std]
#![no_main]

mod choose;
mod config;
mod family;
mod maps;
mod node;
mod packet;
mod socket;
mod stats;

use aya_ebpf::{
    macros::{cgroup_sock, cgroup_sock_addr, classifier, xdp},
    programs::{SockAddrContext, SockContext, TcContext, XdpContext},
};

use crate::{
    packet::{XdpRedirect, XdpTx},
    socket::{CONNECT, SENDMSG},
};

#[cgroup_sock_addr(connect4)]
fn mr_connect4(ctx: SockAddrContext) -> i32 {
    socket::outgoing4::<CONNECT>(&ctx)
}

#[cgroup_sock_addr(connect6)]
fn mr_connect6(ctx: SockAddrContext) -> i32 {
    socket::outgoing6::<CONNECT>(&ctx)
}

#[cgroup_sock_addr(sendmsg4)]
fn mr_sendmsg4(ctx: SockAddrContext) -> i32 {
    socket::outgoing4::<SENDMSG>(&ctx)
}

#[cgroup_sock_addr(sendmsg6)]
fn mr_sendmsg6(ctx: SockAddrContext) -> i32 {
    socket::outgoing6::<SENDMSG>(&ctx)
}

#[cgroup_sock_addr(recvmsg4)]
fn mr_recvmsg4(ctx: SockAddrContext) -> i32 {
    socket::reverse4(&ctx)
}

#[cgroup_sock_addr(recvmsg6)]
fn mr_recvmsg6(ctx: SockAddrContext) -> i32 {
    socket::reverse6(&ctx)
}

#[cgroup_sock_addr(getpeername4)]
fn mr_getpeername4(ctx: SockAddrContext) -> i32 {
    socket::reverse4(&ctx)
}

#[cgroup_sock_addr(getpeername6)]
fn mr_getpeername6(ctx: SockAddrContext) -> i32 {
    socket::reverse6(&ctx)
}

/// When the last descriptor of a socket is closed.
#[cgroup_sock(sock_release)]
fn mr_sock_release(ctx: SockContext) -> i32 {
    socket::released(&ctx)
}

/// On the host side of a pod's veth, at tc ingress: packets that the pod sends.
#[classifier]
fn mr_from_pod(ctx: TcContext) -> i32 {
    packet::from_pod(&ctx)
}

/// On the host side of a pod's veth, at tc egress: packets that the pod is sent.
#[classifier]
fn mr_to_pod(ctx: TcContext) -> i32 {
    packet::to_pod(&ctx)
}

/// On a device that leads out of the node, at tc ingress: packets from outside.
#[classifier]
fn mr_from_uplink(ctx: TcContext) -> i32 {
    packet::from_uplink(&ctx)
}

/// On a device that leads out of the node, at tc egress: packets of the node's own processes.
#[classifier]
fn mr_to_uplink(ctx: TcContext) -> i32 {
    packet::to_uplink(&ctx)
}

/// On a device that leads out of the node, before anything else: packets from outside whose backend is elsewhere. Not
/// declared to know frames of several buffers: generic XDP would copy packets for it without the length of their link
/// header, and tc behind it would look in the wrong place (`skb_pp_cow_data` in 6.18).
#[xdp]
fn mr_xdp(ctx: XdpContext) -> u32 {
    packet::xdp_from_uplink::<XdpTx>(ctx.ctx)
}

/// As `mr_xdp`, in a veth's driver: what XDP_TX sends there may wait for other packets (`veth_xdp_flush`), what is
/// redirected never does.
#[xdp]
fn mr_xdp_veth(ctx: XdpContext) -> u32 {
    packet::xdp_from_uplink::<XdpRedirect>(ctx.ctx)
}

/// Attached nowhere: the agent runs it every few seconds (`millrace_common::sweep`).
#[classifier]
fn mr_sweep(ctx: TcContext) -> i32 {
    packet::sweep(ctx.skb.skb)
}

/// The verifier proves that no program panics; the compiler asks for this all the same.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Helpers such as `bpf_redirect` are for programs under a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
