//! The ICMP errors that matter to a connection, in both families (RFC 792, RFC 4443).

/// What went wrong with the quoted packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// IPv4 "fragmentation needed" (3/4), IPv6 "packet too big" (2/0).
    TooBig { mtu: u16 },
    /// IPv4 3/3, IPv6 1/4.
    PortUnreachable,
    /// IPv4 3/1, IPv6 1/3.
    HostUnreachable,
    /// IPv4 11/0, IPv6 3/0.
    TimeExceeded,
    /// Any other error.
    Other { kind: u8, code: u8 },
}

impl IcmpError {
    pub(super) const ALL_BUT_TOO_BIG: [Self; 3] = [Self::PortUnreachable, Self::HostUnreachable, Self::TimeExceeded];

    /// Type, code and the four bytes after the checksum.
    pub(super) fn header(self, v6: bool) -> (u8, u8, [u8; 4]) {
        let [high, low] = match self {
            Self::TooBig { mtu } => mtu.to_be_bytes(),
            _ => [0, 0],
        };
        let (kind, code) = match (self, v6) {
            (Self::TooBig { .. }, false) => (3, 4),
            (Self::TooBig { .. }, true) => (2, 0),
            (Self::PortUnreachable, false) => (3, 3),
            (Self::PortUnreachable, true) => (1, 4),
            (Self::HostUnreachable, false) => (3, 1),
            (Self::HostUnreachable, true) => (1, 3),
            (Self::TimeExceeded, false) => (11, 0),
            (Self::TimeExceeded, true) => (3, 0),
            (Self::Other { kind, code }, _) => (kind, code),
        };
        (kind, code, [0, 0, high, low])
    }

    /// The error that a header says, if it says one: destination unreachable, too big, time exceeded, parameter problem.
    pub(super) fn from_header(kind: u8, code: u8, rest: [u8; 4], v6: bool) -> Option<Self> {
        let too_big = Self::TooBig { mtu: u16::from_be_bytes([rest[2], rest[3]]) };
        let named = Self::ALL_BUT_TOO_BIG.into_iter().chain([too_big]).find(|error| {
            let (k, c, _) = error.header(v6);
            (k, c) == (kind, code)
        });
        let is_error = if v6 { (1..=4).contains(&kind) } else { [3, 11, 12].contains(&kind) };
        named.or_else(|| is_error.then_some(Self::Other { kind, code }))
    }
}
