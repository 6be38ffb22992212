//! As which address the node asks backends for clients outside, and which addresses are its own.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Family, node_ports::reaches_elsewhere};

/// What the kernel says of the node's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assigned {
    /// On whichever device.
    pub all: BTreeSet<IpAddr>,
    /// Those that default routes choose as a source, at most one of each family.
    pub routed: Vec<IpAddr>,
    /// Those of devices that lead out of the node, device by device.
    pub uplinks: Vec<IpAddr>,
}

/// What the programs are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnAddresses {
    /// The one of each family that backends answer to. `None`: the node has no such address.
    pub v4: Option<IpAddr>,
    pub v6: Option<IpAddr>,
    /// All that the node has and that packets from elsewhere can come to, these included. Others are no endpoint's, and
    /// link-local ones come and go with pods' devices.
    pub all: BTreeSet<IpAddr>,
}

/// Whence the one address of a family may come, best first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origins<'a> {
    /// By the operator: in force whatever the kernel says.
    pub named: &'a [IpAddr],
    /// The Node object's InternalIPs. `None`: the object has not been seen (yet).
    pub object: Option<&'a [IpAddr]>,
    /// In force, by this agent's leave or an earlier one's: it stays until the Node object is known.
    pub before: &'a [IpAddr],
}

impl Assigned {
    /// Chooses the address of each family: the one that the operator names; else the InternalIP, which the rest of the
    /// cluster knows the node by; else the one that a default route chooses; else the first of an uplink.
    #[must_use]
    pub fn choose(&self, origins: Origins<'_>) -> OwnAddresses {
        let [v4, v6] = [Family::V4, Family::V6].map(|family| self.of_family(family, origins));
        let all = self.all.iter().copied().filter(reaches_elsewhere).chain(v4).chain(v6).collect();
        OwnAddresses { v4, v6, all }
    }

    fn of_family(&self, family: Family, origins: Origins<'_>) -> Option<IpAddr> {
        let named = origins.named.iter().copied().find(|ip| Family::of(*ip) == family);
        let known = origins.object.unwrap_or(origins.before);
        // The kernel may have said of a route, or of a device, what it has not said of an address yet, or not any more.
        let found = [known, &self.routed, &self.uplinks]
            .into_iter()
            .flatten()
            .copied()
            .find(|ip| Family::of(*ip) == family && reaches_elsewhere(ip) && self.all.contains(ip));
        named.or(found)
    }
}

impl OwnAddresses {
    /// The one that backends answer to.
    #[must_use]
    pub const fn one(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// True where clients outside may come in this family, and cannot be sent on: the node has lost its address, or has
    /// others, or has none of any family.
    #[must_use]
    pub fn lacks(&self, family: Family, before: &Self) -> bool {
        let has_others = || self.all.iter().any(|ip| Family::of(*ip) == family);
        self.one(family).is_none()
            && (before.one(family).is_some() || has_others() || self.v4.is_none() && self.v6.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips<T: FromIterator<IpAddr>>(texts: &[&str]) -> T {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Two uplinks, each with an address of both families; the default routes lead over the first.
    fn assigned() -> Assigned {
        Assigned {
            all: ips(&["127.0.0.1", "10.0.0.1", "10.1.0.1", "::1", "fe80::1", "fd00::1", "fd01::1"]),
            routed: ips(&["10.0.0.1", "fd00::1"]),
            uplinks: ips(&["fe80::1", "10.0.0.1", "fd00::1", "10.1.0.1", "fd01::1"]),
        }
    }

    fn chosen(assigned: &Assigned, origins: Origins<'_>) -> [Option<String>; 2] {
        let own = assigned.choose(origins);
        [own.v4, own.v6].map(|ip| ip.map(|ip| ip.to_string()))
    }

    fn both(v4: &str, v6: &str) -> [Option<String>; 2] {
        [v4, v6].map(|text| (!text.is_empty()).then(|| text.to_owned()))
    }

    #[test]
    fn the_operator_comes_first_then_the_node_object_then_the_default_route_then_an_uplink() {
        let named: Vec<IpAddr> = ips(&["198.51.100.7"]);
        let object: Vec<IpAddr> = ips(&["10.1.0.1", "fd01::1"]);
        let mut assigned = assigned();
        let origins = Origins { named: &named, object: Some(&object), before: &[] };
        assert_eq!(chosen(&assigned, origins), both("198.51.100.7", "fd01::1"), "each family for itself");
        let origins = Origins { named: &[], ..origins };
        assert_eq!(chosen(&assigned, origins), both("10.1.0.1", "fd01::1"));
        assert_eq!(chosen(&assigned, Origins::default()), both("10.0.0.1", "fd00::1"));
        assigned.routed.clear();
        assert_eq!(chosen(&assigned, Origins::default()), both("10.0.0.1", "fd00::1"), "no link-local one");
        assigned.uplinks.clear();
        assert_eq!(chosen(&assigned, Origins::default()), both("", ""));
    }

    #[test]
    fn an_address_that_the_node_does_not_have_is_the_operators_to_name_and_nobody_elses() {
        let object: Vec<IpAddr> = ips(&["203.0.113.7", "10.1.0.1", "2001:db8::7"]);
        let origins = Origins { object: Some(&object), ..Origins::default() };
        assert_eq!(chosen(&assigned(), origins), both("10.1.0.1", "fd00::1"));
        let mut renumbered = assigned();
        renumbered.all = ips(&["10.0.0.99"]);
        assert_eq!(chosen(&renumbered, origins), both("", ""), "routes and devices have not been heard of since");
        renumbered.routed = ips(&["10.0.0.99"]);
        assert_eq!(chosen(&renumbered, origins), both("10.0.0.99", ""));
    }

    #[test]
    fn until_the_node_object_is_known_the_address_of_before_stays_if_the_node_still_has_it() {
        let before: Vec<IpAddr> = ips(&["10.1.0.1", "fd09::1"]);
        let object: Vec<IpAddr> = ips(&["10.0.0.1"]);
        let origins = Origins { before: &before, ..Origins::default() };
        assert_eq!(chosen(&assigned(), origins), both("10.1.0.1", "fd00::1"));
        assert_eq!(chosen(&assigned(), Origins { object: Some(&object), ..origins }), both("10.0.0.1", "fd00::1"));
    }

    #[test]
    fn the_nodes_are_all_that_others_can_send_to_and_the_one_that_the_operator_names() {
        let named: Vec<IpAddr> = ips(&["198.51.100.7"]);
        let own = assigned().choose(Origins { named: &named, ..Origins::default() });
        assert_eq!(own.all, ips(&["198.51.100.7", "10.0.0.1", "10.1.0.1", "fd00::1", "fd01::1"]));
    }

    #[test]
    fn a_family_that_the_node_does_not_speak_is_nothing_to_warn_of() {
        let own =
            |all: &[&str], v4: &str, v6: &str| OwnAddresses { v4: v4.parse().ok(), v6: v6.parse().ok(), all: ips(all) };
        let none = OwnAddresses::default();
        let rows = [
            (own(&["10.0.0.1"], "10.0.0.1", ""), none.clone(), [false, false], "IPv4 alone"),
            (own(&[], "", ""), none.clone(), [true, true], "no address at all"),
            (own(&["10.0.0.1", "fd00::1"], "10.0.0.1", ""), none, [false, true], "one that leads nowhere"),
            (own(&["10.0.0.1"], "10.0.0.1", ""), own(&[], "10.0.0.1", "fd00::1"), [false, true], "one that is lost"),
        ];
        for (now, before, lacks, why) in rows {
            assert_eq!([Family::V4, Family::V6].map(|family| now.lacks(family, &before)), lacks, "{why}");
        }
    }
}
