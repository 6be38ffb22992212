//! Whole frames, sent and seen on a device inside a namespace.

use std::{
    ffi::CString,
    io,
    mem::{size_of, zeroed},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{netns::Netns, packet::Seen};

/// A packet socket on one device.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// Opens `device` of `netns`; from now on its frames, coming and going, are kept for [`Wire::find`].
    ///
    /// # Errors
    /// No such device, or not root.
    pub fn open(netns: &Netns, device: &str) -> Result<Self> {
        netns.run(|| open(device))?.with_context(|| format!("cannot open {device} in {}", netns.name))
    }

    /// Sends one frame, Ethernet header and all.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: the pointer and the length are those of one live slice.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error()).context("cannot send a frame");
        }
        Ok(())
    }

    /// The first IP packet that `wanted` accepts, or `None` after `patience`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn find(&self, patience: Duration, wanted: impl Fn(&Seen) -> bool) -> Result<Option<Seen>> {
        let deadline = Instant::now() + patience;
        let mut buffer = vec![0; 65536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd, as the count says, alive during the call.
            let ready = unsafe { libc::poll(&raw mut poll, 1, i32::try_from(left.as_millis()).unwrap_or(i32::MAX)) };
            match ready {
                0 => return Ok(None),
                ready if ready < 0 => return Err(io::Error::last_os_error()).context("poll"),
                _ => {}
            }
            // SAFETY: the pointer and the length are those of one live buffer.
            let read = unsafe { libc::recv(poll.fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let length = usize::try_from(read).map_err(|_| io::Error::last_os_error()).context("recv")?;
            if let Some(seen) = Seen::frame(&buffer[..length]).ok().filter(&wanted) {
                return Ok(Some(seen));
            }
        }
    }
}

fn open(device: &str) -> Result<Wire> {
    let every = u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be();
    // SAFETY: plain system call; the result is checked before it is owned.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(every)) };
    if socket < 0 {
        return Err(io::Error::last_os_error()).context("packet socket: run as root");
    }
    // SAFETY: just opened, owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let name = CString::new(device)?;
    // SAFETY: a C string that lives during the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error()).context("no such device");
    }
    // SAFETY: all bytes zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET)?;
    address.sll_protocol = every;
    address.sll_ifindex = i32::try_from(index)?;
    let length = u32::try_from(size_of::<libc::sockaddr_ll>())?;
    // SAFETY: the pointer and the length are those of one live sockaddr_ll.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound < 0 {
        return Err(io::Error::last_os_error()).context("bind");
    }
    Ok(Wire { socket })
}
