//! One generic netlink socket to the kernel's IPVS, as kube-proxy keeps one (github.com/moby/ipvs): a message for each server
//! and for each endpoint, and the kernel's answer before the next. ipvsadm opens a socket for every one of them.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use super::message::{Answer, CONTROL, Message, answers, family};

/// An answer is a header and an error number; the one that names the family is not much more.
const ANSWER: usize = 8192;

pub(super) struct Socket {
    descriptor: OwnedFd,
    /// What the kernel calls IPVS since it was loaded.
    family: u16,
    sequence: u32,
}

impl Socket {
    /// In the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let descriptor =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkGeneric)?;
        bind(descriptor.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let mut socket = Self { descriptor, family: CONTROL, sequence: 0 };
        let reply = socket.exchange(Message::family_of("IPVS"))?;
        socket.family =
            family(&reply).ok_or_else(|| io::Error::other("the kernel does not say what IPVS is called"))?;
        Ok(socket)
    }

    /// Sends one message, and waits until the kernel has done what it says.
    pub(super) fn ask(&mut self, message: Message) -> io::Result<()> {
        self.exchange(message).map(drop)
    }

    /// The reply to a question comes before the acknowledgement; a command has the latter only.
    fn exchange(&mut self, message: Message) -> io::Result<Vec<u8>> {
        self.sequence += 1;
        let descriptor = self.descriptor.as_raw_fd();
        send(descriptor, &message.finish(self.family, self.sequence), MsgFlags::empty())?;
        let (mut reply, mut buffer) = (Vec::new(), [0; ANSWER]);
        loop {
            let length = recv(descriptor, &mut buffer, MsgFlags::empty())?;
            for answer in answers(&buffer[..length]) {
                match answer {
                    Answer::Done(0) => return Ok(reply),
                    Answer::Done(error) => return Err(io::Error::from_raw_os_error(error)),
                    Answer::Payload(payload) => reply = payload.to_vec(),
                }
            }
        }
    }
}
