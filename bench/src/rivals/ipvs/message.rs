//! Messages of generic netlink, and what IPVS understands of them (include/uapi/linux/ip_vs.h). Pure. Numbers are in the
//! machine's byte order, ports and addresses in the network's.

use std::net::{IpAddr, SocketAddr};

/// `GENL_ID_CTRL`: who knows the other families' numbers.
pub(super) const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

const NEW_SERVICE: u8 = 1;
const DELETE_SERVICE: u8 = 3;
const NEW_DESTINATION: u8 = 5;
const SET_DESTINATION: u8 = 6;
const DELETE_DESTINATION: u8 = 7;
/// `IPVS_CMD_ATTR_*`
const SERVICE: u16 = 1;
const DESTINATION: u16 = 2;
/// `NLM_F_REQUEST | NLM_F_ACK`
const FLAGS: u16 = 5;
/// `NLMSG_ERROR`, which an acknowledgement is, too.
const ERROR: u16 = 2;
/// Lengths of the headers.
const NETLINK: usize = 16;
const GENERIC: usize = 4;
const ATTRIBUTE: usize = 4;

/// One request, without what only its sender knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

/// What a service is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// `IPPROTO_*`
    pub(super) protocol: u16,
}

impl Message {
    fn new(command: u8) -> Self {
        let mut bytes = vec![0; NETLINK];
        bytes.extend([command, 1, 0, 0]);
        Self(bytes)
    }

    pub(super) fn family_of(name: &str) -> Self {
        let mut message = Self::new(GET_FAMILY);
        message.text(FAMILY_NAME, name);
        message
    }

    pub(super) fn add_server(server: Server, scheduler: &str) -> Self {
        let mut message = Self::new(NEW_SERVICE);
        message.nested(SERVICE, |message| {
            message.server(server);
            message.text(6, scheduler);
            // No flags, and the mask that says which.
            message.attribute(7, &[[0; 4], [0xff; 4]].concat());
            message.number(8, 0);
            // Of clients that stay with an endpoint: none do. One address, in the words of its family.
            message.number(9, if server.address.is_ipv4() { u32::MAX } else { 128 });
        });
        message
    }

    pub(super) fn delete_server(server: Server) -> Self {
        let mut message = Self::new(DELETE_SERVICE);
        message.nested(SERVICE, |message| message.server(server));
        message
    }

    pub(super) fn add_endpoint(server: Server, endpoint: SocketAddr, weight: u32) -> Self {
        Self::endpoint(NEW_DESTINATION, server, endpoint, Some(weight))
    }

    pub(super) fn set_endpoint(server: Server, endpoint: SocketAddr, weight: u32) -> Self {
        Self::endpoint(SET_DESTINATION, server, endpoint, Some(weight))
    }

    pub(super) fn delete_endpoint(server: Server, endpoint: SocketAddr) -> Self {
        Self::endpoint(DELETE_DESTINATION, server, endpoint, None)
    }

    fn endpoint(command: u8, server: Server, endpoint: SocketAddr, weight: Option<u32>) -> Self {
        let mut message = Self::new(command);
        message.nested(SERVICE, |message| message.server(server));
        message.nested(DESTINATION, |message| {
            message.attribute(1, &octets(endpoint.ip()));
            message.attribute(2, &endpoint.port().to_be_bytes());
            if let Some(weight) = weight {
                // The way of masquerading, which is 0; then the weight, and no threshold, upper or lower.
                for (kind, value) in [(3, 0), (4, weight), (5, 0), (6, 0)] {
                    message.number(kind, value);
                }
            }
            message.attribute(11, &family_number(endpoint).to_ne_bytes());
        });
        message
    }

    fn server(&mut self, server: Server) {
        self.attribute(1, &family_number(server.address).to_ne_bytes());
        self.attribute(2, &server.protocol.to_ne_bytes());
        self.attribute(3, &octets(server.address.ip()));
        self.attribute(4, &server.address.port().to_be_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |message| message.0.extend(value));
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, &[value.as_bytes(), &[0]].concat());
    }

    /// An attribute that `content` fills.
    fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend([0; ATTRIBUTE]);
        content(self);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// The bytes to send, to a family.
    pub(super) fn finish(mut self, family: u16, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        let header = [&length.to_ne_bytes()[..], &family.to_ne_bytes(), &FLAGS.to_ne_bytes(), &sequence.to_ne_bytes()];
        self.0[..12].copy_from_slice(&header.concat());
        self.0
    }
}

const fn family_number(address: SocketAddr) -> u16 {
    (if address.is_ipv4() { nix::libc::AF_INET } else { nix::libc::AF_INET6 }) as u16
}

/// `union nf_inet_addr`
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&v4.octets());
            octets
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// One message of the kernel's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<'of> {
    /// The end: 0, or the number of an error.
    Done(i32),
    /// What stands behind both headers.
    Payload(&'of [u8]),
}

/// All that came at once; what is cut off is not an answer.
pub(super) fn answers(mut bytes: &[u8]) -> Vec<Answer<'_>> {
    let mut answers = Vec::new();
    while let Some(length) = number(bytes, 0).map(|length| length as usize) {
        let Some(message) = bytes.get(..length).filter(|_| length >= NETLINK + GENERIC) else { break };
        answers.push(match short(message, 4) {
            Some(ERROR) => Answer::Done(-number(message, NETLINK).unwrap_or_default().cast_signed()),
            _ => Answer::Payload(&message[NETLINK + GENERIC..]),
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    answers
}

/// The number of a family, from the control family's reply.
pub(super) fn family(mut attributes: &[u8]) -> Option<u16> {
    loop {
        let (length, kind) = (usize::from(short(attributes, 0)?), short(attributes, 2)?);
        if kind == FAMILY_ID {
            return short(attributes, ATTRIBUTE);
        }
        attributes = attributes.get(length.max(ATTRIBUTE).next_multiple_of(4)..)?;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel would find it: an acknowledgement of each, behind a reply.
    #[test]
    fn replies_and_acknowledgements_are_told_apart_wherever_they_come_together() {
        let reply = Message::family_of("IPVS").finish(CONTROL, 1);
        let mut acknowledgement = Message(vec![0; NETLINK + GENERIC + NETLINK]).finish(ERROR, 1);
        let mut both = reply.clone();
        both.extend(&acknowledgement);
        assert_eq!(answers(&both), [Answer::Payload(&reply[20..]), Answer::Done(0)]);
        acknowledgement[NETLINK..NETLINK + 4].copy_from_slice(&(-nix::libc::EEXIST).to_ne_bytes());
        assert_eq!(answers(&acknowledgement), [Answer::Done(nix::libc::EEXIST)]);
        assert_eq!(answers(&both[..both.len() - 4]), [Answer::Payload(&reply[20..])]);
    }

    #[test]
    fn a_family_is_known_by_its_number() {
        let mut message = Message::family_of("IPVS");
        message.attribute(FAMILY_ID, &37_u16.to_ne_bytes());
        assert_eq!(family(&message.0[NETLINK + GENERIC..]), Some(37));
        assert_eq!(family(&Message::family_of("IPVS").0[NETLINK + GENERIC..]), None);
    }

    #[test]
    fn attributes_are_as_long_as_they_say_and_begin_at_fours() {
        let server = Server { address: "10.96.0.10:80".parse().expect("an address"), protocol: 6 };
        let bytes = Message::add_server(server, "rr").finish(37, 9);
        assert_eq!(number(&bytes, 0), Some(bytes.len() as u32));
        assert_eq!((short(&bytes, 4), number(&bytes, 8)), (Some(37), Some(9)));
        let outer = &bytes[NETLINK + GENERIC..];
        assert_eq!((short(outer, 0), short(outer, 2)), (Some(outer.len() as u16), Some(SERVICE)));
        // Family, protocol, address, port: the port begins behind two attributes of 8 bytes and one of 20.
        let port = &outer[ATTRIBUTE + 8 + 8 + 20..];
        assert_eq!((short(port, 0), short(port, 2), &port[4..8]), (Some(6), Some(4), &[0, 80, 0, 0][..]));
    }
}
