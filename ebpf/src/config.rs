//! What the agent fixes when it loads the programs: constants to the verifier, which drops the branches not taken.

use millrace_common::{address::Port, snat};

/// Cookie of the host's network namespace: sockets in it belong to the node, all others to pods.
#[unsafe(no_mangle)]
static HOST_NETNS_COOKIE: u64 = 0;

/// 1: the socket hooks translate the TCP connections of pods. 0: only the host's.
#[unsafe(no_mangle)]
static SOCKET_LB: u32 = 1;

/// 1: the socket hooks translate the UDP datagrams of pods too (nodes whose veths are not ours).
#[unsafe(no_mangle)]
static SOCKET_LB_UDP: u32 = 0;

/// Ports of flows from outside on their way to a backend: the first, and how many.
#[unsafe(no_mangle)]
static SNAT_FIRST_PORT: u32 = snat::FIRST_PORT as u32;
#[unsafe(no_mangle)]
static SNAT_PORTS: u32 = (snat::LAST_PORT - snat::FIRST_PORT) as u32 + 1;

macro_rules! read {
    ($name:ident) => {
        // SAFETY: a static of this object; volatile, since the loader rewrites it after compilation.
        unsafe { core::ptr::read_volatile(&raw const $name) }
    };
}

#[inline(always)]
pub(crate) fn host_netns_cookie() -> u64 {
    read!(HOST_NETNS_COOKIE)
}

#[inline(always)]
pub(crate) fn socket_lb_for_pods() -> bool {
    read!(SOCKET_LB) == 1
}

#[inline(always)]
pub(crate) fn socket_lb_udp_for_pods() -> bool {
    read!(SOCKET_LB_UDP) == 1
}

/// True for a port that clients may be hidden behind.
#[inline(always)]
pub(crate) fn is_snat_port(port: Port) -> bool {
    let (first, count) = snat_ports();
    (port.host() as u32).wrapping_sub(first) < count
}

/// First port, and number of ports.
#[inline(always)]
pub(crate) fn snat_ports() -> (u32, u32) {
    (read!(SNAT_FIRST_PORT), read!(SNAT_PORTS))
}
