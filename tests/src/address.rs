//! Dual stack by one rule: every IPv4 address of the tests has an IPv6 twin that a person recognises.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `10.96.0.10` becomes `fd00:10:96::10`: the decimal digits, read as they stand.
#[must_use]
pub fn twin(v4: Ipv4Addr) -> Ipv6Addr {
    let digits = |octet: u8| u16::from_str_radix(&octet.to_string(), 16).unwrap_or_default();
    let [a, b, c, d] = v4.octets().map(digits);
    Ipv6Addr::new(0xfd00, a, b, c, 0, 0, 0, d)
}

/// The address in the family that a test runs in.
#[must_use]
pub fn in_family(v4: Ipv4Addr, v6: bool) -> IpAddr {
    if v6 { twin(v4).into() } else { v4.into() }
}

/// In both families, IPv4 first.
#[must_use]
pub fn both(v4: Ipv4Addr, port: u16) -> [SocketAddr; 2] {
    [false, true].map(|v6| SocketAddr::new(in_family(v4, v6), port))
}

#[test]
fn a_twin_shows_the_same_digits() {
    assert_eq!(twin(Ipv4Addr::new(10, 96, 0, 10)).to_string(), "fd00:10:96::10");
    assert_eq!(twin(Ipv4Addr::new(192, 168, 1, 11)).to_string(), "fd00:192:168:1::11");
}
