//! Where an address that no Service has is nobody's: pure.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;

/// The service ranges without the addresses that are assigned on the node: what goes to one of these is the node's own
/// business (NodeLocal DNSCache listens at the ClusterIP of kube-dns), and the programs drop what goes to the rest and
/// names no Service.
#[must_use]
pub fn service_ranges(ranges: &BTreeSet<IpNet>, assigned: &BTreeSet<IpAddr>) -> BTreeSet<IpNet> {
    assigned
        .iter()
        .fold(ranges.clone(), |ranges, address| ranges.into_iter().flat_map(|r| without(r, *address)).collect())
}

/// Halves the range that holds the address until nothing but the address is left out.
fn without(range: IpNet, address: IpAddr) -> Vec<IpNet> {
    if !range.contains(&address) {
        return vec![range];
    }
    let (mut kept, mut rest) = (Vec::new(), range);
    while rest.prefix_len() < rest.max_prefix_len() {
        let Ok(halves) = rest.subnets(rest.prefix_len() + 1) else { break };
        for half in halves {
            if half.contains(&address) {
                rest = half;
            } else {
                kept.push(half);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ranges: &[&str], assigned: &[&str]) -> BTreeSet<IpNet> {
        let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        service_ranges(&ranges, &assigned.iter().map(|address| address.parse().unwrap()).collect())
    }

    #[test]
    fn an_address_of_the_node_is_in_no_range_and_every_other_address_is_where_it_was() {
        let ranges = of(&["10.96.0.0/28", "fd00::/112"], &["10.96.0.10", "10.96.0.11", "192.0.2.1"]);
        let covers = |address: [u8; 4]| ranges.iter().any(|range| range.contains(&IpAddr::from(address)));
        for last in 0..=255 {
            assert_eq!(covers([10, 96, 0, last]), last < 16 && ![10, 11].contains(&last), "10.96.0.{last}");
        }
        assert!(ranges.contains(&"fd00::/112".parse().unwrap()), "the other family's is whole");
    }

    #[test]
    fn a_hole_costs_as_many_ranges_as_there_are_bits_below_the_range() {
        assert_eq!(of(&["10.96.0.0/12"], &["10.96.0.10"]).len(), 20);
        assert_eq!(of(&["fd00:10:96::/112"], &["fd00:10:96::a"]).len(), 16);
        assert!(of(&["10.96.0.10/32"], &["10.96.0.10"]).is_empty());
    }
}
