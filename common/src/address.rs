//! Addresses and ports as the network has them, and the two families that carry them.

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An IPv4 address: one 32-bit word, in network order in memory.
pub type Addr4 = [u32; 1];
/// An IPv6 address: four 32-bit words, in network order in memory.
pub type Addr6 = [u32; 4];

/// `IPPROTO_TCP` and its kin, as the IP header has them (IANA protocol numbers).
pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ICMPV6: u8 = 58;
    pub const SCTP: u8 = 132;

    /// True where services are: the transport begins with both ports.
    #[inline(always)]
    #[must_use]
    pub const fn has_ports(protocol: u8) -> bool {
        matches!(protocol, TCP | UDP | SCTP)
    }

    /// True where a packet says that it begins or ends something: only such a beginning makes a flow.
    #[inline(always)]
    #[must_use]
    pub const fn connects(protocol: u8) -> bool {
        matches!(protocol, TCP | SCTP)
    }
}

/// A port in network byte order, as it lies in a packet and in `bpf_sock_addr.user_port`.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Port(u16);

impl Port {
    /// The port that marks "an address that services own" in the FRONTENDS maps.
    pub const ANY: Self = Self(0);

    /// From the number a person writes.
    #[inline(always)]
    #[must_use]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// From a word that is in network order already.
    #[inline(always)]
    #[must_use]
    pub const fn from_network(word: u16) -> Self {
        Self(word)
    }

    /// The number a person reads.
    #[inline(always)]
    #[must_use]
    pub const fn host(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The word as it lies in a packet.
    #[inline(always)]
    #[must_use]
    pub const fn network(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.host(), f)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.host(), f)
    }
}

/// What the keys and values need of an address: the two families differ in nothing else.
pub trait Address: Copy + Eq + Ord + Default + AsRef<[u32]> + fmt::Debug + 'static {
    /// 32-bit words in it.
    const WORDS: usize;
    /// The address as `std` has it.
    fn to_ip(self) -> IpAddr;
    /// `None` when `ip` is of the other family.
    fn from_ip(ip: IpAddr) -> Option<Self>;
}

impl Address for Addr4 {
    const WORDS: usize = 1;

    fn to_ip(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self[0].to_ne_bytes()))
    }

    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(v4) => Some(addr4(v4)),
            IpAddr::V6(_) => None,
        }
    }
}

impl Address for Addr6 {
    const WORDS: usize = 4;

    fn to_ip(self) -> IpAddr {
        let mut octets = [0; 16];
        for (bytes, word) in octets.chunks_exact_mut(4).zip(self) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        IpAddr::V6(Ipv6Addr::from(octets))
    }

    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(addr6(v6)),
        }
    }
}

/// The map form of an IPv4 address.
#[must_use]
pub const fn addr4(ip: Ipv4Addr) -> Addr4 {
    [u32::from_ne_bytes(ip.octets())]
}

/// The map form of an IPv6 address.
#[must_use]
pub const fn addr6(ip: Ipv6Addr) -> Addr6 {
    let o = ip.octets();
    [
        u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
        u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
        u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
        u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
    ]
}

/// Third word of an IPv4-mapped IPv6 address (`::ffff:a.b.c.d`, RFC 4291, 2.5.5.2), in memory order.
pub const MAPPED_PREFIX: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// The IPv4 address inside `::ffff:a.b.c.d`.
#[inline(always)]
#[must_use]
pub fn unmap(address: Addr6) -> Option<Addr4> {
    if address[0] == 0 && address[1] == 0 && address[2] == MAPPED_PREFIX { Some([address[3]]) } else { None }
}

/// `::ffff:a.b.c.d` for an IPv4 address.
#[inline(always)]
#[must_use]
pub fn map(address: Addr4) -> Addr6 {
    [0, 0, MAPPED_PREFIX, address[0]]
}
