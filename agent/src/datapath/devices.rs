//! The devices and addresses of the node's network namespace, as rtnetlink tells them: pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::migrate::KUBE_IPVS0;

/// One thing that rtnetlink said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Device {
        index: u32,
        name: String,
        /// What it sends begins with an Ethernet header.
        framed: bool,
    },
    DeviceGone {
        index: u32,
    },
    Address {
        index: u32,
        address: IpAddr,
    },
    AddressGone {
        index: u32,
        address: IpAddr,
    },
    /// A default route leads over these.
    DefaultRoute {
        indices: Vec<u32>,
    },
}

/// What a device is to the data path: it decides which programs it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The host side of a pod's veth.
    Pod,
    /// Leads out of the node.
    Uplink,
}

/// What the agent does about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// A device to attach to: it has appeared, or got a name that matches.
    Attach { index: u32, name: String, role: Role },
    /// It has vanished (and took its programs along), or it has no such role any more.
    Release { index: u32, vanished: bool },
    /// All addresses that are assigned to the node now.
    Addresses(BTreeSet<IpAddr>),
    /// Routes out of the node, or addresses, may be others now: those of uplinks, device by device.
    Outward(Vec<IpAddr>),
    /// It would be attached to, but its packets begin with the network header, as a tunnel's or WireGuard's do. Told once.
    Unframed { name: String },
    /// kube-proxy's device is there, whose addresses are not the node's. Told once.
    ServicesOfKubeProxy,
    /// A queue or a filter was put on a device.
    Filters,
}

/// Which devices get the per-packet programs.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Empty: none matches by its prefix.
    pub veth_prefix: String,
    /// Empty: those that default routes lead over.
    pub uplinks: BTreeSet<String>,
}

impl Selection {
    /// `routed`: a default route leads over it.
    fn role(&self, name: &str, routed: bool) -> Option<Role> {
        if self.uplinks.contains(name) {
            return Some(Role::Uplink);
        }
        if !self.veth_prefix.is_empty() && name.starts_with(&self.veth_prefix) {
            return Some(Role::Pod);
        }
        (routed && self.uplinks.is_empty()).then_some(Role::Uplink)
    }
}

/// What is known of the namespace.
#[derive(Debug)]
pub(super) struct Devices {
    selection: Selection,
    names: BTreeMap<u32, String>,
    addresses: BTreeSet<(u32, IpAddr)>,
    /// Default routes lead over them, or did: a route that is replaced is gone for a moment, and its device keeps its
    /// programs all the same.
    routed: BTreeSet<u32>,
    /// Their packets have no Ethernet header, which the programs expect.
    unframed: BTreeSet<u32>,
    /// Those of them that were spoken of.
    lamented: BTreeSet<u32>,
    /// What was told.
    roles: BTreeMap<u32, Role>,
    told: BTreeSet<IpAddr>,
    told_of_kube_proxy: bool,
    /// An address of the node has come or gone since [`Self::settle`].
    moved: bool,
}

impl Devices {
    pub(super) fn new(selection: Selection) -> Self {
        Self {
            selection,
            names: BTreeMap::new(),
            addresses: BTreeSet::new(),
            routed: BTreeSet::new(),
            unframed: BTreeSet::new(),
            lamented: BTreeSet::new(),
            roles: BTreeMap::new(),
            told: BTreeSet::new(),
            told_of_kube_proxy: false,
            moved: false,
        }
    }

    /// Takes in one event. What it means for the node's addresses, [`Self::settle`] says.
    pub(super) fn hear(&mut self, heard: Heard) -> Vec<DeviceEvent> {
        match heard {
            Heard::Device { index, name, framed } => self.device(index, name, framed),
            Heard::DeviceGone { index } => {
                let before = self.addresses.len();
                self.addresses.retain(|(of, _)| *of != index);
                self.moved |= self.addresses.len() != before && !self.has_services(index);
                self.gone(index)
            }
            Heard::Address { index, address } => {
                self.moved |= self.addresses.insert((index, address)) && !self.has_services(index);
                Vec::new()
            }
            Heard::AddressGone { index, address } => {
                self.moved |= self.addresses.remove(&(index, address)) && !self.has_services(index);
                Vec::new()
            }
            Heard::DefaultRoute { indices } => self.routed(&indices),
        }
    }

    /// Takes in everything anew: at start, and after the kernel had to drop events. Always tells the addresses.
    pub(super) fn replace(&mut self, dump: impl IntoIterator<Item = Heard>) -> Vec<DeviceEvent> {
        let mut unseen: BTreeSet<u32> = self.names.keys().copied().collect();
        let mut events = Vec::new();
        self.addresses.clear();
        for heard in dump {
            match heard {
                Heard::Device { index, name, framed } => {
                    unseen.remove(&index);
                    events.extend(self.device(index, name, framed));
                }
                Heard::Address { index, address } => drop(self.addresses.insert((index, address))),
                Heard::DefaultRoute { indices } => events.extend(self.routed(&indices)),
                Heard::DeviceGone { .. } | Heard::AddressGone { .. } => {}
            }
        }
        events.extend(unseen.into_iter().flat_map(|index| self.gone(index)));
        self.moved = false;
        self.told = self.all_addresses();
        events.push(DeviceEvent::Addresses(self.told.clone()));
        events
    }

    /// The node's addresses, if they are others than those that were told last. To be asked once for a burst of events: each
    /// address of a device that goes is one, and a node may have thousands.
    pub(super) fn settle(&mut self) -> Option<DeviceEvent> {
        if !std::mem::take(&mut self.moved) {
            return None;
        }
        let now = self.all_addresses();
        if now == self.told {
            return None;
        }
        self.told.clone_from(&now);
        Some(DeviceEvent::Addresses(now))
    }

    fn device(&mut self, index: u32, name: String, framed: bool) -> Vec<DeviceEvent> {
        // A bond takes after its first device.
        if framed {
            self.unframed.remove(&index);
            self.lamented.remove(&index);
        } else {
            self.unframed.insert(index);
        }
        let before = self.has_services(index);
        self.names.insert(index, name);
        let now = self.has_services(index);
        self.moved |= before != now;
        let news = now && !std::mem::replace(&mut self.told_of_kube_proxy, true);
        news.then_some(DeviceEvent::ServicesOfKubeProxy).into_iter().chain(self.review(index)).collect()
    }

    /// kube-proxy's IPVS mode puts the address of every service on a device of its own, so that the kernel takes the packets
    /// in. Such an address counted as the node's would be left to the node. (That of NodeLocal DNSCache, on a device of
    /// another name, is: a process of the node listens there.)
    fn has_services(&self, index: u32) -> bool {
        self.names.get(&index).is_some_and(|name| name == KUBE_IPVS0)
    }

    fn routed(&mut self, indices: &[u32]) -> Vec<DeviceEvent> {
        self.routed.extend(indices);
        indices.iter().flat_map(|index| self.review(*index)).collect()
    }

    fn gone(&mut self, index: u32) -> Vec<DeviceEvent> {
        self.names.remove(&index);
        for of in [&mut self.routed, &mut self.unframed, &mut self.lamented] {
            of.remove(&index);
        }
        let held = self.roles.remove(&index);
        held.map(|_| DeviceEvent::Release { index, vanished: true }).into_iter().collect()
    }

    /// A device that has another role than it was told to have.
    fn review(&mut self, index: u32) -> Vec<DeviceEvent> {
        let Some(name) = self.names.get(&index) else { return Vec::new() };
        let wanted = self.selection.role(name, self.routed.contains(&index));
        let role = wanted.filter(|_| !self.unframed.contains(&index));
        let news = wanted != role && self.lamented.insert(index);
        let unframed = news.then(|| DeviceEvent::Unframed { name: name.clone() });
        if self.roles.get(&index).copied() == role {
            return unframed.into_iter().collect();
        }
        let released = self.roles.remove(&index).map(|_| DeviceEvent::Release { index, vanished: false });
        let attached = role.map(|role| {
            self.roles.insert(index, role);
            DeviceEvent::Attach { index, name: name.clone(), role }
        });
        released.into_iter().chain(attached).chain(unframed).collect()
    }

    /// To be told whenever anything has changed that a source address follows from.
    pub(super) fn outward(&self) -> DeviceEvent {
        let of_uplinks = |(index, _): &&(u32, IpAddr)| self.roles.get(index) == Some(&Role::Uplink);
        DeviceEvent::Outward(self.addresses.iter().filter(of_uplinks).map(|(_, address)| *address).collect())
    }

    fn all_addresses(&self) -> BTreeSet<IpAddr> {
        self.addresses.iter().filter(|(index, _)| !self.has_services(*index)).map(|(_, address)| *address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices() -> Devices {
        Devices::new(Selection { veth_prefix: "eni".into(), uplinks: ["eth1".to_owned()].into() })
    }

    fn device(index: u32, name: &str) -> Heard {
        Heard::Device { index, name: name.into(), framed: true }
    }

    fn address(index: u32, address: &str) -> Heard {
        Heard::Address { index, address: address.parse().unwrap() }
    }

    fn gone(index: u32, address: &str) -> Heard {
        Heard::AddressGone { index, address: address.parse().unwrap() }
    }

    /// What is told of the node's addresses after a burst of events.
    fn settled(devices: &mut Devices, burst: impl IntoIterator<Item = Heard>) -> Option<DeviceEvent> {
        burst.into_iter().for_each(|heard| drop(devices.hear(heard)));
        devices.settle()
    }

    fn attach(index: u32, name: &str) -> DeviceEvent {
        DeviceEvent::Attach { index, name: name.into(), role: Role::Pod }
    }

    fn uplink(index: u32, name: &str) -> DeviceEvent {
        DeviceEvent::Attach { index, name: name.into(), role: Role::Uplink }
    }

    fn addresses(all: &[&str]) -> DeviceEvent {
        DeviceEvent::Addresses(all.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn a_pods_veth_is_attached_to_once_however_often_the_kernel_mentions_it() {
        let mut devices = devices();
        assert_eq!(devices.hear(device(7, "eni1a2b")), [attach(7, "eni1a2b")]);
        assert_eq!(devices.hear(device(7, "eni1a2b")), []);
        assert_eq!(devices.hear(Heard::DeviceGone { index: 7 }), [DeviceEvent::Release { index: 7, vanished: true }]);
        assert_eq!(devices.hear(device(8, "docker0")), []);
        assert_eq!(devices.hear(device(9, "eth1")), [uplink(9, "eth1")]);
    }

    #[test]
    fn a_device_is_attached_to_when_it_gets_a_name_that_matches_and_let_go_when_it_loses_it() {
        let mut devices = devices();
        assert_eq!(devices.hear(device(7, "veth9")), []);
        assert_eq!(devices.hear(device(7, "eni9")), [attach(7, "eni9")]);
        assert_eq!(devices.hear(device(7, "veth9")), [DeviceEvent::Release { index: 7, vanished: false }]);
    }

    #[test]
    fn after_lost_events_a_new_dump_finds_what_came_and_what_went() {
        let mut devices = devices();
        devices.replace([device(7, "eni7"), device(8, "eni8"), address(1, "127.0.0.1")]);
        let events = devices.replace([device(8, "eni8"), device(9, "eni9"), address(2, "10.0.0.5")]);
        assert_eq!(
            events,
            [attach(9, "eni9"), DeviceEvent::Release { index: 7, vanished: true }, addresses(&["10.0.0.5"])]
        );
    }

    #[test]
    fn an_address_on_two_devices_stays_the_nodes_until_both_lose_it() {
        let mut devices = devices();
        assert_eq!(settled(&mut devices, [address(2, "169.254.20.10")]), Some(addresses(&["169.254.20.10"])));
        assert_eq!(settled(&mut devices, [address(3, "169.254.20.10")]), None);
        assert_eq!(settled(&mut devices, [gone(2, "169.254.20.10")]), None);
        assert_eq!(settled(&mut devices, [Heard::DeviceGone { index: 3 }]), Some(addresses(&[])));
    }

    #[test]
    fn a_burst_of_addresses_is_told_once_and_one_that_ends_as_it_began_not_at_all() {
        let mut devices = devices();
        let burst = ["10.0.0.5", "10.0.0.6", "10.0.0.7"];
        assert_eq!(settled(&mut devices, burst.map(|ip| address(2, ip))), Some(addresses(&burst)));
        assert_eq!(settled(&mut devices, [gone(2, "10.0.0.5"), address(2, "10.0.0.5")]), None);
        assert_eq!(settled(&mut devices, burst.map(|ip| gone(2, ip))), Some(addresses(&[])));
    }

    #[test]
    fn the_addresses_of_kube_proxys_device_are_services_and_those_of_node_local_dnscache_the_nodes() {
        let mut devices = devices();
        let events = devices.replace([
            device(2, "kube-ipvs0"),
            address(2, "10.96.0.1"),
            address(2, "10.96.0.10"),
            device(3, "nodelocaldns"),
            address(3, "10.96.0.10"),
        ]);
        assert_eq!(events, [DeviceEvent::ServicesOfKubeProxy, addresses(&["10.96.0.10"])]);
        assert_eq!(settled(&mut devices, [address(2, "10.96.0.2"), gone(2, "10.96.0.1")]), None);
        assert_eq!(devices.hear(device(2, "kube-ipvs0")), [], "it is spoken of once");
        assert_eq!(settled(&mut devices, [device(2, "kube-ipvs1")]), Some(addresses(&["10.96.0.10", "10.96.0.2"])));
        assert_eq!(settled(&mut devices, [device(2, "kube-ipvs0")]), Some(addresses(&["10.96.0.10"])));
        assert_eq!(settled(&mut devices, [Heard::DeviceGone { index: 2 }]), None);
        assert_eq!(devices.hear(device(4, "kube-ipvs0")), [], "nor when another kube-proxy makes it anew");
    }

    #[test]
    fn an_empty_prefix_matches_no_device() {
        let mut devices = Devices::new(Selection { veth_prefix: String::new(), uplinks: BTreeSet::new() });
        assert_eq!(devices.hear(device(2, "eth0")), []);
    }

    #[test]
    fn where_no_uplink_is_named_it_is_the_device_of_the_default_route() {
        let mut devices = Devices::new(Selection { veth_prefix: "eni".into(), uplinks: BTreeSet::new() });
        let route = |indices: &[u32]| Heard::DefaultRoute { indices: indices.into() };
        assert_eq!(devices.hear(device(2, "eth0")), []);
        assert_eq!(devices.hear(route(&[2])), [uplink(2, "eth0")]);
        assert_eq!(devices.hear(route(&[2])), []);
        let events = devices.replace([device(2, "eth0"), device(3, "wlan0")]);
        assert_eq!(events, [addresses(&[])], "a route that is being replaced takes no programs away");
        assert_eq!(devices.hear(route(&[2, 3])), [uplink(3, "wlan0")]);
        assert_eq!(devices.hear(Heard::DeviceGone { index: 2 }), [DeviceEvent::Release { index: 2, vanished: true }]);
        assert_eq!(devices.hear(device(2, "eth0")), [], "its index says nothing of the next device");
    }

    #[test]
    fn the_addresses_of_uplinks_are_told_apart_from_those_of_other_devices() {
        let mut devices = devices();
        for heard in [device(2, "eth0"), device(3, "eth1"), device(4, "eni1")] {
            devices.hear(heard);
        }
        for (index, ip) in [(2, "10.0.0.1"), (3, "10.1.0.1"), (3, "fd01::1"), (4, "169.254.1.1")] {
            devices.hear(address(index, ip));
        }
        let told = ["10.1.0.1", "fd01::1"].map(|ip| ip.parse().unwrap());
        assert_eq!(devices.outward(), DeviceEvent::Outward(told.into()));
    }

    #[test]
    fn a_device_without_ethernet_headers_is_named_and_not_attached_to() {
        let mut devices = Devices::new(Selection { veth_prefix: "eni".into(), uplinks: BTreeSet::new() });
        let tunnel = || Heard::Device { index: 2, name: "wg0".into(), framed: false };
        let named = || DeviceEvent::Unframed { name: "wg0".into() };
        assert_eq!(devices.hear(tunnel()), [], "nobody wants it");
        assert_eq!(devices.hear(Heard::DefaultRoute { indices: vec![2] }), [named()]);
        assert_eq!(devices.hear(tunnel()), [], "it is spoken of once");
        assert_eq!(devices.replace([tunnel()]), [addresses(&[])]);
        let framed = || Heard::Device { index: 2, name: "wg0".into(), framed: true };
        assert_eq!(devices.hear(framed()), [uplink(2, "wg0")], "a bond, whose first device came");
        assert_eq!(
            devices.hear(tunnel()),
            [DeviceEvent::Release { index: 2, vanished: false }, named()],
            "and another"
        );
        assert_eq!(devices.hear(Heard::DeviceGone { index: 2 }), []);
        assert_eq!(devices.hear(device(2, "eni2")), [attach(2, "eni2")], "its index says nothing of the next device");
    }

    #[test]
    fn an_operator_who_names_uplinks_decides() {
        let mut devices = devices();
        assert_eq!(devices.hear(Heard::DefaultRoute { indices: vec![2] }), []);
        assert_eq!(devices.hear(device(2, "eth0")), []);
    }
}
