//! From a described packet to its bytes.

use std::net::IpAddr;

use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions,
    Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader, SingleVlanHeader, TcpHeader, VlanId, checksum::Sum16BitWords,
    ip_number,
};

use super::{Body, Chunk, Fragment, Packet};

pub(super) const SCTP: IpNumber = IpNumber(132);

impl Packet {
    /// The whole frame, from the Ethernet header.
    ///
    /// # Panics
    /// If the description is no packet: two families, too long, options that are no multiple of 4 bytes.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        self.framed(self.ip_bytes())
    }

    /// From the IP header on: what a device without link layer sees, and what an ICMP error quotes.
    ///
    /// # Panics
    /// As [`Packet::frame`].
    #[must_use]
    pub fn ip_bytes(&self) -> Vec<u8> {
        self.ip_packet(&self.transport(), None)
    }

    /// The packet in fragments of at most `size` bytes of IP payload (a multiple of 8), as frames.
    ///
    /// # Panics
    /// As [`Packet::frame`].
    #[must_use]
    pub fn fragments(&self, id: u32, size: usize) -> Vec<Vec<u8>> {
        assert!(size > 0 && size.is_multiple_of(8), "fragments are cut at multiples of 8 bytes");
        let transport = self.transport();
        let count = transport.len().div_ceil(size);
        transport
            .chunks(size)
            .enumerate()
            .map(|(i, bytes)| {
                let offset = u16::try_from(i * size / 8).expect("a datagram is at most 64 KiB");
                self.framed(self.ip_packet(bytes, Some(Fragment { id, offset, more: i + 1 < count })))
            })
            .collect()
    }

    fn framed(&self, ip: Vec<u8>) -> Vec<u8> {
        let ether_type = if self.destination.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let mut frame = Vec::with_capacity(18 + ip.len());
        let outer = if self.vlan.is_some() { EtherType::VLAN_TAGGED_FRAME } else { ether_type };
        let ethernet =
            Ethernet2Header { source: self.source_mac, destination: self.destination_mac, ether_type: outer };
        ethernet.write(&mut frame).expect("writing to a Vec");
        if let Some(id) = self.vlan {
            let vlan_id = VlanId::try_new(id).expect("a VLAN id has 12 bits");
            let tag = SingleVlanHeader { vlan_id, ether_type, ..SingleVlanHeader::default() };
            tag.write(&mut frame).expect("writing to a Vec");
        }
        frame.extend(ip);
        frame
    }

    fn ip_packet(&self, transport: &[u8], fragment: Option<Fragment>) -> Vec<u8> {
        let protocol = self.protocol();
        let mut headers = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header::new(0, self.ttl, protocol, source.octets(), destination.octets())
                    .expect("an empty packet is not too long");
                header.dont_fragment = self.dont_fragment;
                header.identification = 0x4d52;
                header.options =
                    self.ip_options.as_slice().try_into().expect("options are a multiple of 4 bytes, at most 40");
                if let Some(fragment) = fragment {
                    header.identification = u16::try_from(fragment.id).expect("an IPv4 id has 16 bits");
                    header.fragment_offset = offset(fragment);
                    header.more_fragments = fragment.more;
                }
                IpHeaders::Ipv4(header, Ipv4Extensions::default())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    hop_limit: self.ttl,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv6Header::default()
                };
                // PadN over six bytes (RFC 8200, 4.2).
                let padding = || Ipv6RawExtHeader::new_raw(protocol, &[1, 4, 0, 0, 0, 0]).expect("6 bytes are allowed");
                let extensions = Ipv6Extensions {
                    hop_by_hop_options: self.extension_headers.then(padding),
                    destination_options: self.extension_headers.then(padding),
                    fragment: fragment.map(|f| Ipv6FragmentHeader {
                        next_header: protocol,
                        fragment_offset: offset(f),
                        more_fragments: f.more,
                        identification: f.id,
                    }),
                    ..Ipv6Extensions::default()
                };
                IpHeaders::Ipv6(header, extensions)
            }
            (source, destination) => panic!("{source} and {destination} are of two families"),
        };
        headers.set_next_headers(protocol);
        headers.set_payload_len(transport.len()).expect("a packet is at most 64 KiB");
        if let IpHeaders::Ipv4(header, _) = &mut headers {
            header.header_checksum = header.calc_header_checksum();
        }
        let mut bytes = Vec::new();
        headers.write(&mut bytes).expect("writing to a Vec");
        bytes.extend_from_slice(transport);
        bytes
    }

    pub(super) fn protocol(&self) -> IpNumber {
        match (&self.body, self.destination.is_ipv6()) {
            (Body::Tcp { .. }, _) => ip_number::TCP,
            (Body::Udp { .. }, _) => ip_number::UDP,
            (Body::Sctp { .. }, _) => SCTP,
            (Body::IcmpError { .. } | Body::EchoRequest { .. }, false) => ip_number::ICMP,
            (Body::IcmpError { .. } | Body::EchoRequest { .. }, true) => ip_number::IPV6_ICMP,
            (Body::Raw { protocol, .. }, _) => IpNumber(*protocol),
        }
    }

    /// Header and payload of the transport, with its checksum.
    fn transport(&self) -> Vec<u8> {
        let v6 = self.destination.is_ipv6();
        let (mut bytes, checksum_at) = match &self.body {
            Body::Tcp { flags, sequence, acknowledgment, payload } => {
                let header = TcpHeader {
                    acknowledgment_number: *acknowledgment,
                    syn: flags.syn,
                    ack: flags.ack,
                    fin: flags.fin,
                    rst: flags.rst,
                    psh: flags.psh,
                    ..TcpHeader::new(self.source.port(), self.destination.port(), *sequence, 64240)
                };
                ([header.to_bytes().as_slice(), payload].concat(), Some(16))
            }
            Body::Udp { payload, checksum } => {
                let length = u16::try_from(8 + payload.len()).expect("a datagram is at most 64 KiB");
                let header = [self.source.port(), self.destination.port(), length, 0].map(u16::to_be_bytes);
                ([header.as_flattened(), payload].concat(), checksum.then_some(6))
            }
            Body::Sctp { tag, chunk, checksum } => return sctp(self, *tag, chunk, *checksum),
            Body::IcmpError { error, quoted } => {
                let (kind, code, rest) = error.header(v6);
                ([&[kind, code, 0, 0], rest.as_slice(), quoted].concat(), Some(2))
            }
            Body::EchoRequest { id, payload } => {
                let kind = if v6 { 128 } else { 8 };
                let [high, low] = id.to_be_bytes();
                ([&[kind, 0, 0, 0, high, low, 0, 1], payload.as_slice()].concat(), Some(2))
            }
            Body::Raw { bytes, .. } => (bytes.clone(), None),
        };
        if let Some(at) = checksum_at {
            let mut sum = checksum(self.source.ip(), self.destination.ip(), self.protocol(), &bytes);
            // Zero would say "none" (RFC 768).
            if sum == 0 && matches!(self.body, Body::Udp { .. }) {
                sum = 0xffff;
            }
            if self.partial {
                // Zeros add nothing to the pseudo header.
                let zeros = vec![0; bytes.len()];
                sum = !checksum(self.source.ip(), self.destination.ip(), self.protocol(), &zeros);
            }
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }
}

/// The common header and one chunk, padded to four bytes; its checksum covers all of that and no address.
fn sctp(packet: &Packet, tag: u32, chunk: &Chunk, checksum: bool) -> Vec<u8> {
    let ports = [packet.source.port(), packet.destination.port()].map(u16::to_be_bytes);
    let length = u16::try_from(4 + chunk.value.len()).expect("a chunk is at most 64 KiB");
    let mut bytes = [ports.as_flattened(), &tag.to_be_bytes(), &[0; 4]].concat();
    bytes.extend([chunk.kind, chunk.flags]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(&chunk.value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    if checksum {
        // Little endian, unlike all else (RFC 9260, appendix A).
        let sum = crc32c::crc32c(&bytes).to_le_bytes();
        bytes[8..12].copy_from_slice(&sum);
    }
    bytes
}

fn offset(fragment: Fragment) -> IpFragOffset {
    IpFragOffset::try_new(fragment.offset).expect("an offset has 13 bits")
}

/// The checksum of `transport`, with the pseudo header where the protocol has one. Zero for a transport whose own
/// checksum is right.
pub(super) fn checksum(source: IpAddr, destination: IpAddr, protocol: IpNumber, transport: &[u8]) -> u16 {
    let mut sum = Sum16BitWords::new().add_slice(transport);
    if protocol != ip_number::ICMP {
        for address in [source, destination] {
            sum = match address {
                IpAddr::V4(v4) => sum.add_slice(&v4.octets()),
                IpAddr::V6(v6) => sum.add_slice(&v6.octets()),
            };
        }
        let length = u32::try_from(transport.len()).expect("a packet is at most 64 KiB");
        sum = sum.add_slice(&length.to_be_bytes()).add_slice(&[0, protocol.0]);
    }
    // `ones_complement` leaves the sum in memory order.
    u16::from_be(sum.ones_complement())
}
