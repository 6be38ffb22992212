//! A veth as if it were a cable: what leaves by it carries whole checksums, segment by segment, and what native XDP sends
//! to it is received.

use std::{io, mem::zeroed, net::UdpSocket, os::fd::AsRawFd};

use anyhow::{Context, Result};

/// linux/sockios.h, linux/ethtool.h
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const SET_TX_CHECKSUMS: u32 = 0x17;
const SET_GRO: u32 = 0x2c;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// For a device of the caller's network namespace.
///
/// # Errors
/// No such device, or the kernel's.
pub fn like_a_cable(device: &str) -> Result<()> {
    // Without the one, the kernel sums up what leaves, and cuts large packets before. With the other, a veth has a queue
    // to receive what its peer's XDP sends.
    for (command, data) in [(SET_TX_CHECKSUMS, 0), (SET_GRO, 1)] {
        set(device, Value { command, data }).with_context(|| format!("cannot set up {device} as a cable"))?;
    }
    Ok(())
}

fn set(device: &str, mut value: Value) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    // SAFETY: all bytes zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()).take(libc::IFNAMSIZ - 1) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request names a device and points to a value of the command's form, alive during the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
