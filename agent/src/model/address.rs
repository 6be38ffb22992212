//! Addresses and ports as objects write them.

use std::net::IpAddr;

use super::Malformed;

/// An address that a packet can be sent to. Traffic is never steered to or from the node's own scopes: a manifest
/// that names 127.0.0.1 or the metadata service would otherwise hand it to every pod.
pub(super) fn routable(field: &str, text: &str) -> Result<IpAddr, Malformed> {
    let ip: IpAddr = text.trim().parse().map_err(|_| {
        Malformed::new(field, format!("`{text}` is no IP address; write one such as 10.0.0.1 or fd00::1"))
    })?;
    if let IpAddr::V6(v6) = ip
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        return Err(Malformed::new(field, format!("`{text}` is an IPv4-mapped address; write {v4}")));
    }
    match scope(ip) {
        None => Ok(ip),
        Some(scope) => {
            Err(Malformed::new(field, format!("`{text}` is {scope}: no service may use it; write a routable address")))
        }
    }
}

/// What an address is that others cannot send to.
pub(crate) fn scope(ip: IpAddr) -> Option<&'static str> {
    Some(match ip {
        _ if ip.is_unspecified() => "the unspecified address",
        _ if ip.is_loopback() => "a loopback address",
        _ if ip.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_link_local() => "a link-local address",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        _ => return None,
    })
}

/// 1 to 65535.
pub(super) fn port(field: &str, number: i32) -> Result<u16, Malformed> {
    u16::try_from(number)
        .ok()
        .filter(|&port| port != 0)
        .ok_or_else(|| Malformed::new(field, format!("{number} is no port; write a number from 1 to 65535")))
}

/// Keeps what parses; what does not becomes a problem.
pub(super) fn sift<T>(result: Result<T, Malformed>, problems: &mut Vec<Malformed>) -> Option<T> {
    result.map_err(|malformed| problems.push(malformed)).ok()
}
