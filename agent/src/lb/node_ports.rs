//! On which of its addresses the node answers to node ports.

use std::net::IpAddr;

use ipnet::IpNet;

use super::NodeInfo;

/// `--nodeport-addresses`: neither says all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePortAddresses {
    /// The addresses that the Node object, or the operator, names.
    pub primary: bool,
    pub ranges: Vec<IpNet>,
}

impl NodePortAddresses {
    /// The addresses of `node` that this means. Never one that is not reached from elsewhere: loopback, link-local.
    pub fn of<'a>(&'a self, node: &'a NodeInfo) -> impl Iterator<Item = IpAddr> + 'a {
        let all = !self.primary && self.ranges.is_empty();
        let is_meant = move |ip: &IpAddr| {
            all || self.primary && node.primary.contains(ip) || self.ranges.iter().any(|range| range.contains(ip))
        };
        node.addresses.iter().copied().filter(reaches_elsewhere).filter(is_meant)
    }
}

pub(super) fn reaches_elsewhere(ip: &IpAddr) -> bool {
    let near = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(near || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeInfo {
        let parse = |text: &&str| text.parse().unwrap();
        let addresses = ["127.0.0.1", "169.254.20.10", "10.0.0.1", "172.17.0.1", "::1", "fe80::1", "fd00::1"];
        let primary = ["10.0.0.1", "fd00::1"];
        NodeInfo {
            addresses: addresses.iter().map(parse).collect(),
            primary: primary.iter().map(parse).collect(),
            ..NodeInfo::default()
        }
    }

    fn of(addresses: &NodePortAddresses) -> Vec<String> {
        addresses.of(&node()).map(|ip| ip.to_string()).collect()
    }

    #[test]
    fn node_ports_are_on_every_address_that_is_reached_from_elsewhere() {
        assert_eq!(of(&NodePortAddresses::default()), ["10.0.0.1", "172.17.0.1", "fd00::1"]);
    }

    #[test]
    fn an_operator_may_name_ranges_or_the_nodes_own_addresses_but_never_loopback() {
        let ranges = ["172.16.0.0/12", "127.0.0.0/8", "::/0"].map(|range| range.parse().unwrap());
        assert_eq!(of(&NodePortAddresses { ranges: ranges.into(), primary: false }), ["172.17.0.1", "fd00::1"]);
        assert_eq!(of(&NodePortAddresses { primary: true, ranges: Vec::new() }), ["10.0.0.1", "fd00::1"]);
    }
}
