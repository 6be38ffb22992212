//! Frames for the tests: what a packet says, as plain values, and the bytes that say it. Checksums are filled in;
//! [`Seen`] reads a frame back and checks them.

mod build;
mod icmp;
mod seen;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

pub use icmp::IcmpError;
pub use seen::{Checksum, Seen, SeenBody};

/// TCP flags by name, `0` otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub syn: bool,
    pub ack: bool,
    pub fin: bool,
    pub rst: bool,
    pub psh: bool,
}

impl Flags {
    pub const SYN: Self = Self { syn: true, ack: false, fin: false, rst: false, psh: false };
    pub const SYN_ACK: Self = Self { ack: true, ..Self::SYN };
    pub const ACK: Self = Self { syn: false, ..Self::SYN_ACK };
    pub const FIN_ACK: Self = Self { fin: true, ..Self::ACK };
    pub const RST: Self = Self { rst: true, syn: false, ..Self::SYN };
    pub const RST_ACK: Self = Self { rst: true, ..Self::ACK };
}

/// The first chunk of an SCTP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// A number of [`chunk`].
    pub kind: u8,
    pub flags: u8,
    pub value: Vec<u8>,
}

/// Types of SCTP's chunks (RFC 9260, 3.2).
pub mod chunk {
    pub const DATA: u8 = 0;
    pub const INIT: u8 = 1;
    pub const INIT_ACK: u8 = 2;
    pub const ABORT: u8 = 6;
    pub const SHUTDOWN: u8 = 7;
    pub const SHUTDOWN_ACK: u8 = 8;
    pub const COOKIE_ECHO: u8 = 10;
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// What follows the IP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Tcp {
        flags: Flags,
        sequence: u32,
        acknowledgment: u32,
        payload: Vec<u8>,
    },
    Udp {
        payload: Vec<u8>,
        /// False: the field is zero, "none" (RFC 768).
        checksum: bool,
    },
    Sctp {
        /// Verification tag.
        tag: u32,
        chunk: Chunk,
        /// False: the field is zero, "left to the device".
        checksum: bool,
    },
    /// An error about the packet whose first bytes (from its IP header) it quotes.
    IcmpError {
        error: IcmpError,
        quoted: Vec<u8>,
    },
    /// ICMP or ICMPv6, by family.
    EchoRequest {
        id: u16,
        payload: Vec<u8>,
    },
    /// Any other protocol; ports are not written.
    Raw {
        protocol: u8,
        bytes: Vec<u8>,
    },
}

/// One fragment's place in its datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    pub id: u32,
    /// In units of 8 bytes.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
}

/// A packet as a test describes it. Both addresses are of one family; ports are ignored where the body has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub body: Body,
    pub source_mac: [u8; 6],
    pub destination_mac: [u8; 6],
    /// 802.1Q, in the frame itself.
    pub vlan: Option<u16>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 only.
    pub dont_fragment: bool,
    /// IPv4 options, a multiple of 4 bytes.
    pub ip_options: Vec<u8>,
    /// IPv6: a hop-by-hop and a destination options header of padding are put before the transport.
    pub extension_headers: bool,
    /// The transport's checksum is left to a device, as on packets that never see a wire: the field holds the sum of
    /// the pseudo header (CHECKSUM_PARTIAL).
    pub partial: bool,
}

impl Packet {
    #[must_use]
    pub fn new(source: SocketAddr, destination: SocketAddr, body: Body) -> Self {
        Self {
            source,
            destination,
            body,
            source_mac: [2, 0, 0, 0, 0, 1],
            destination_mac: [2, 0, 0, 0, 0, 2],
            vlan: None,
            ttl: 64,
            dont_fragment: false,
            ip_options: Vec::new(),
            extension_headers: false,
            partial: false,
        }
    }

    #[must_use]
    pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: Flags) -> Self {
        Self::new(source, destination, Body::Tcp { flags, sequence: 1000, acknowledgment: 0, payload: Vec::new() })
    }

    #[must_use]
    pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Self {
        Self::new(source, destination, Body::Udp { payload: payload.to_vec(), checksum: true })
    }

    /// An SCTP packet with one chunk of a number of [`chunk`]: an INIT has the tag 0 and asks for [`Self::INITIATE_TAG`],
    /// any other chunk has that tag.
    #[must_use]
    pub fn sctp(source: SocketAddr, destination: SocketAddr, kind: u8) -> Self {
        let opens = matches!(kind, chunk::INIT | chunk::INIT_ACK);
        let mut value = vec![0; if opens { 16 } else { 0 }];
        if opens {
            value[..4].copy_from_slice(&Self::INITIATE_TAG.to_be_bytes());
        }
        let tag = if kind == chunk::INIT { 0 } else { Self::INITIATE_TAG };
        Self::new(source, destination, Body::Sctp { tag, chunk: Chunk { kind, flags: 0, value }, checksum: true })
    }

    pub const INITIATE_TAG: u32 = 0x1357_9bdf;

    /// An ICMP error from `source` to the sender of `about`, quoting its first `quote` bytes.
    #[must_use]
    pub fn icmp_error(source: SocketAddr, error: IcmpError, about: &Self, quote: usize) -> Self {
        let mut quoted = about.ip_bytes();
        quoted.truncate(quote);
        Self::new(source, about.source, Body::IcmpError { error, quoted })
    }

    #[must_use]
    pub fn payload(mut self, bytes: &[u8]) -> Self {
        match &mut self.body {
            Body::Tcp { payload, .. } | Body::Udp { payload, .. } | Body::EchoRequest { payload, .. } => {
                *payload = bytes.to_vec();
            }
            Body::Sctp { chunk, .. } => chunk.value = bytes.to_vec(),
            Body::IcmpError { quoted, .. } => *quoted = bytes.to_vec(),
            Body::Raw { bytes: raw, .. } => *raw = bytes.to_vec(),
        }
        self
    }

    /// UDP and SCTP: leaves the checksum zero.
    #[must_use]
    pub fn without_checksum(mut self) -> Self {
        if let Body::Udp { checksum, .. } | Body::Sctp { checksum, .. } = &mut self.body {
            *checksum = false;
        }
        self
    }

    #[must_use]
    pub fn vlan(mut self, id: u16) -> Self {
        self.vlan = Some(id);
        self
    }

    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// IPv4 options (a multiple of 4 bytes).
    #[must_use]
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        self.ip_options = options.to_vec();
        self
    }

    /// Leaves the transport's checksum to a device.
    #[must_use]
    pub fn partial(mut self) -> Self {
        self.partial = true;
        self
    }

    /// IPv6: hop-by-hop and destination options before the transport.
    #[must_use]
    pub fn extension_headers(mut self) -> Self {
        self.extension_headers = true;
        self
    }
}
