//! From bytes to what a packet says, checksums checked.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, SingleVlanHeader, ip_number,
};

use super::{
    Flags, Fragment, IcmpError,
    build::{SCTP, checksum},
};

/// What is known of a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    Right,
    Wrong,
    /// UDP over IPv4, SCTP: the field is zero.
    None,
    /// The packet is cut off or a fragment: it cannot be computed.
    Unknown,
}

/// A packet as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub vlan: Option<u16>,
    /// Port 0 where there is none.
    pub source: SocketAddr,
    /// Port 0 where there is none.
    pub destination: SocketAddr,
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    pub ip_options: Vec<u8>,
    pub fragment: Option<Fragment>,
    /// IPv4's own; `Right` in IPv6, which has none.
    pub ip_checksum: Checksum,
    /// The transport's.
    pub checksum: Checksum,
    pub body: SeenBody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenBody {
    Tcp {
        flags: Flags,
        sequence: u32,
        acknowledgment: u32,
        payload: Vec<u8>,
    },
    Udp {
        payload: Vec<u8>,
    },
    Sctp {
        tag: u32,
        /// Type and flags of the first chunk, zero where the packet is cut off.
        chunk: [u8; 2],
        /// What follows the header of the first chunk.
        rest: Vec<u8>,
    },
    IcmpError {
        error: IcmpError,
        /// What the quote says.
        quoted: Box<Seen>,
    },
    /// Any other, and a fragment's tail.
    Other(Vec<u8>),
}

impl Seen {
    /// Reads a frame with an Ethernet header.
    ///
    /// # Errors
    /// What is wrong with the bytes, in words.
    pub fn frame(bytes: &[u8]) -> Result<Self, String> {
        let (ethernet, rest) = Ethernet2Header::from_slice(bytes).map_err(|e| e.to_string())?;
        if ethernet.ether_type != EtherType::VLAN_TAGGED_FRAME {
            return Self::ip(rest);
        }
        let (tag, rest) = SingleVlanHeader::from_slice(rest).map_err(|e| e.to_string())?;
        Ok(Self { vlan: Some(tag.vlan_id.value()), ..Self::ip(rest)? })
    }

    /// Reads from the IP header on. The bytes may be cut off, as in a quote.
    ///
    /// # Errors
    /// What is wrong with the bytes, in words.
    pub fn ip(bytes: &[u8]) -> Result<Self, String> {
        match bytes.first().map(|byte| byte >> 4) {
            Some(4) => Self::v4(bytes),
            Some(6) => Self::v6(bytes),
            version => Err(format!("no IP packet: version {version:?}")),
        }
    }

    /// True if no checksum in it is wrong, those of a quote's IP header and transport included.
    #[must_use]
    pub fn checksums_hold(&self) -> bool {
        let quoted = match &self.body {
            SeenBody::IcmpError { quoted, .. } => quoted.checksums_hold(),
            _ => true,
        };
        self.ip_checksum != Checksum::Wrong && self.checksum != Checksum::Wrong && quoted
    }

    fn v4(bytes: &[u8]) -> Result<Self, String> {
        let (header, rest) = Ipv4Header::from_slice(bytes).map_err(|e| e.to_string())?;
        let length = usize::from(header.payload_len().map_err(|e| e.to_string())?);
        let fragment = header.is_fragmenting_payload().then(|| Fragment {
            id: header.identification.into(),
            offset: header.fragment_offset.value(),
            more: header.more_fragments,
        });
        let ip_checksum =
            if header.header_checksum == header.calc_header_checksum() { Checksum::Right } else { Checksum::Wrong };
        let seen = Self {
            vlan: None,
            source: SocketAddr::new(IpAddr::from(header.source), 0),
            destination: SocketAddr::new(IpAddr::from(header.destination), 0),
            protocol: header.protocol.0,
            ttl: header.time_to_live,
            ip_options: header.options.to_vec(),
            fragment,
            ip_checksum,
            checksum: Checksum::Unknown,
            body: SeenBody::Other(Vec::new()),
        };
        seen.with_transport(rest, length)
    }

    fn v6(bytes: &[u8]) -> Result<Self, String> {
        let (header, rest) = Ipv6Header::from_slice(bytes).map_err(|e| e.to_string())?;
        let (protocol, transport, fragment) = behind_extensions(header.next_header, rest)?;
        let length = usize::from(header.payload_length)
            .checked_sub(rest.len() - transport.len())
            .ok_or("the extension headers are longer than the packet")?;
        let seen = Self {
            vlan: None,
            source: SocketAddr::new(IpAddr::from(header.source), 0),
            destination: SocketAddr::new(IpAddr::from(header.destination), 0),
            protocol: protocol.0,
            ttl: header.hop_limit,
            ip_options: Vec::new(),
            fragment,
            ip_checksum: Checksum::Right,
            checksum: Checksum::Unknown,
            body: SeenBody::Other(Vec::new()),
        };
        seen.with_transport(transport, length)
    }

    /// `length`: of the transport's bytes, as the IP header says.
    fn with_transport(mut self, bytes: &[u8], length: usize) -> Result<Self, String> {
        // Ethernet pads short frames.
        let bytes = &bytes[..bytes.len().min(length)];
        let whole = bytes.len() == length && self.fragment.is_none();
        let tail = self.fragment.is_some_and(|f| f.offset > 0);
        let protocol = IpNumber(self.protocol);
        let v6 = self.destination.is_ipv6();
        let word = |at: usize| bytes.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
        let double = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        // The other family's is a protocol like any other.
        let icmp = if v6 { ip_number::IPV6_ICMP } else { ip_number::ICMP };
        if whole && [ip_number::TCP, ip_number::UDP, icmp].contains(&protocol) {
            let right = checksum(self.source.ip(), self.destination.ip(), protocol, bytes) == 0;
            self.checksum = if right { Checksum::Right } else { Checksum::Wrong };
        }
        if whole && protocol == SCTP {
            self.checksum = sctp_checksum(bytes);
        }
        if !tail && [ip_number::TCP, ip_number::UDP, SCTP].contains(&protocol) {
            self.source.set_port(word(0).ok_or("cut off before the ports")?);
            self.destination.set_port(word(2).ok_or("cut off before the ports")?);
        }
        self.body = match protocol {
            _ if tail => SeenBody::Other(bytes.to_vec()),
            // A quote may end after the ports and the sequence number (RFC 792).
            ip_number::TCP => {
                let bits = bytes.get(13).copied().unwrap_or(0);
                SeenBody::Tcp {
                    flags: Flags {
                        fin: bits & 1 != 0,
                        syn: bits & 2 != 0,
                        rst: bits & 4 != 0,
                        psh: bits & 8 != 0,
                        ack: bits & 16 != 0,
                    },
                    sequence: double(4).unwrap_or(0),
                    acknowledgment: double(8).unwrap_or(0),
                    payload: bytes
                        .get(bytes.get(12).map_or(20, |b| usize::from(b >> 4) * 4).max(20)..)
                        .unwrap_or(&[])
                        .to_vec(),
                }
            }
            ip_number::UDP => {
                if word(6) == Some(0) {
                    // RFC 8200, 8.1: over IPv6 it must not be zero.
                    self.checksum = if v6 { Checksum::Wrong } else { Checksum::None };
                }
                SeenBody::Udp { payload: bytes.get(8..).unwrap_or(&[]).to_vec() }
            }
            SCTP => SeenBody::Sctp {
                tag: double(4).unwrap_or(0),
                chunk: bytes.get(12..14).map_or([0; 2], |b| [b[0], b[1]]),
                rest: bytes.get(16..).unwrap_or(&[]).to_vec(),
            },
            protocol if protocol == icmp => match bytes {
                [kind, code, _, _, a, b, c, d, quoted @ ..] => {
                    match IcmpError::from_header(*kind, *code, [*a, *b, *c, *d], v6) {
                        Some(error) => SeenBody::IcmpError { error, quoted: Box::new(Self::ip(quoted)?) },
                        None => SeenBody::Other(bytes.to_vec()),
                    }
                }
                _ => return Err("cut off inside the ICMP header".into()),
            },
            _ => SeenBody::Other(bytes.to_vec()),
        };
        Ok(self)
    }
}

/// Over extension headers in any order and number (RFC 8200, 4): the transport, its bytes, and the last fragment header.
fn behind_extensions(first: IpNumber, bytes: &[u8]) -> Result<(IpNumber, &[u8], Option<Fragment>), String> {
    let (mut next, mut rest, mut fragment) = (first, bytes, None);
    loop {
        let length = match (next, rest) {
            // A routing header that is not used up says that the packet goes elsewhere first.
            (ip_number::IPV6_ROUTE, [_, _, _, 1..=255, ..]) => return Ok((next, rest, fragment)),
            (ip_number::IPV6_HOP_BY_HOP | ip_number::IPV6_DEST_OPTIONS | ip_number::IPV6_ROUTE, [_, units, ..]) => {
                (usize::from(*units) + 1) * 8
            }
            (ip_number::IPV6_FRAG, _) => {
                let (header, _) = Ipv6FragmentHeader::from_slice(rest).map_err(|e| e.to_string())?;
                fragment = Some(Fragment {
                    id: header.identification,
                    offset: header.fragment_offset.value(),
                    more: header.more_fragments,
                });
                8
            }
            _ => return Ok((next, rest, fragment)),
        };
        next = IpNumber(rest[0]);
        rest = rest.get(length..).ok_or("cut off in an extension header")?;
        // Whatever header follows lies in the first fragment only.
        if fragment.is_some_and(|fragment| fragment.offset > 0) {
            return Ok((next, rest, fragment));
        }
    }
}

/// SCTP's, which covers no address.
fn sctp_checksum(bytes: &[u8]) -> Checksum {
    let Some(field) = bytes.get(8..12) else { return Checksum::Wrong };
    if field == [0; 4] {
        return Checksum::None;
    }
    let mut covered = bytes.to_vec();
    covered[8..12].fill(0);
    if crc32c::crc32c(&covered).to_le_bytes() == field { Checksum::Right } else { Checksum::Wrong }
}
