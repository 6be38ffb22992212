//! What is asked of the node's own network namespace: its cookie, its devices, and as whom it sends.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    ptr,
};

/// Cookie of this process's network namespace: sockets with another one belong to pods.
///
/// # Errors
/// ENOPROTOOPT before Linux 5.14.
pub fn netns_cookie() -> io::Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).or_else(|_| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)))?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the socket is open, and the kernel writes at most `length` bytes into `cookie`, which has as many.
    let result = unsafe {
        let cookie = ptr::from_mut(&mut cookie).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, cookie, &raw mut length)
    };
    if result == 0 && length as usize == size_of::<u64>() { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Whether this process's network namespace has a device of this name.
#[must_use]
pub fn has_device(name: &str) -> bool {
    nix::net::if_::if_nametoindex(name).is_ok()
}

/// asm-generic/socket.h
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The addresses that default routes choose as a source now, at most one of each family.
#[must_use]
pub fn sources() -> Vec<IpAddr> {
    // Documentation addresses (RFC 5737, RFC 3849): connecting a UDP socket sends nothing.
    let somewhere = [
        (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from([192, 0, 2, 1])),
        (IpAddr::from(Ipv6Addr::UNSPECIFIED), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])),
    ];
    somewhere.into_iter().filter_map(|(any, far)| source_towards(any, far)).collect()
}

fn source_towards(any: IpAddr, far: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(far, 9)).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_there_and_a_device_of_no_name_is_not() {
        assert!(has_device("lo"));
        assert!(!has_device("") && !has_device("nosuch0"));
    }

    #[test]
    fn the_namespace_of_a_process_keeps_its_cookie() {
        assert_eq!(netns_cookie().unwrap(), netns_cookie().unwrap());
    }
}
