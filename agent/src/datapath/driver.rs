//! Which driver a device has.

use std::{io, mem::zeroed, net::UdpSocket, os::fd::AsRawFd};

/// linux/sockios.h, linux/ethtool.h
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const GET_DRIVER: u32 = 3;

/// `struct ethtool_drvinfo`, as far as it is read.
#[repr(C)]
struct Info {
    command: u32,
    driver: [u8; 32],
    _rest: [u8; 160],
}

const _: () = assert!(size_of::<Info>() == 196);

/// True for one end of a veth pair. A device that does not say what drives it is none.
pub(super) fn is_veth(device: &str) -> bool {
    ask(device).is_ok_and(|driver| driver.starts_with(b"veth\0"))
}

fn ask(device: &str) -> io::Result<[u8; 32]> {
    let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("[::]:0"))?;
    let mut info = Info { command: GET_DRIVER, driver: [0; 32], _rest: [0; 160] };
    // SAFETY: all bytes zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()).take(libc::IFNAMSIZ - 1) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut info).cast();
    // SAFETY: the request names a device and points to an answer of the command's size, alive during the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(info.driver) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_and_a_device_that_is_not_there_are_no_veths() {
        assert!(!is_veth("lo"));
        assert!(!is_veth("no-such-device"));
    }
}
