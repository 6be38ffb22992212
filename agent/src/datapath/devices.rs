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
        link: Link,
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
    /// A route that leads out of the node, goes over these.
    RouteOut {
        indices: Vec<u32>,
    },
}

/// How what a device sends begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// With an Ethernet header.
    Framed,
    /// So, too, but it never leaves the node.
    Loopback,
    /// With the network header.
    Unframed,
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
    /// Empty: those of routes out of the node, and of the address that the cluster knows it by.
    pub uplinks: BTreeSet<String>,
}

impl Selection {
    fn role(&self, name: &str, leads_out: bool) -> Option<Role> {
        if self.uplinks.contains(name) {
            return Some(Role::Uplink);
        }
        if !self.veth_prefix.is_empty() && name.starts_with(&self.veth_prefix) {
            return Some(Role::Pod);
        }
        (leads_out && self.uplinks.is_empty()).then_some(Role::Uplink)
    }
}

/// What is known of the namespace.
#[derive(Debug)]
pub(super) struct Devices {
    selection: Selection,
    names: BTreeMap<u32, String>,
    addresses: BTreeSet<(u32, IpAddr)>,
    /// As which the rest of the cluster knows the node.
    own: BTreeSet<IpAddr>,
    /// A default route, a route by way of a router or an address of [`Self::own`] is theirs, or was: one that is replaced is
    /// gone for a moment, and its device keeps its programs all the same.
    leading_out: BTreeSet<u32>,
    loopback: BTreeSet<u32>,
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
            own: BTreeSet::new(),
            leading_out: BTreeSet::new(),
            loopback: BTreeSet::new(),
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
            Heard::Device { index, name, link } => self.device(index, name, link),
            Heard::DeviceGone { index } => {
                let before = self.addresses.len();
                self.addresses.retain(|(of, _)| *of != index);
                self.moved |= self.addresses.len() != before && !self.has_services(index);
                self.gone(index)
            }
            Heard::Address { index, address } => {
                self.moved |= self.addresses.insert((index, address)) && !self.has_services(index);
                if self.own.contains(&address) { self.leads_out(&[index]) } else { Vec::new() }
            }
            Heard::AddressGone { index, address } => {
                self.moved |= self.addresses.remove(&(index, address)) && !self.has_services(index);
                Vec::new()
            }
            Heard::RouteOut { indices } => self.leads_out(&indices),
        }
    }

    /// Takes in everything anew: at start, and after the kernel had to drop events. Always tells the addresses.
    pub(super) fn replace(&mut self, dump: impl IntoIterator<Item = Heard>) -> Vec<DeviceEvent> {
        let mut unseen: BTreeSet<u32> = self.names.keys().copied().collect();
        let mut events = Vec::new();
        self.addresses.clear();
        for heard in dump {
            match heard {
                Heard::Device { index, .. } => {
                    unseen.remove(&index);
                    events.extend(self.hear(heard));
                }
                Heard::Address { .. } | Heard::RouteOut { .. } => events.extend(self.hear(heard)),
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

    /// Takes in as which addresses the rest of the cluster knows the node: their devices lead out.
    pub(super) fn own(&mut self, own: BTreeSet<IpAddr>) -> Vec<DeviceEvent> {
        self.own = own;
        let of: Vec<u32> =
            self.addresses.iter().filter(|(_, address)| self.own.contains(address)).map(|(index, _)| *index).collect();
        self.leads_out(&of)
    }

    fn device(&mut self, index: u32, name: String, link: Link) -> Vec<DeviceEvent> {
        match link {
            // A bond takes after its first device.
            Link::Framed => {
                self.unframed.remove(&index);
                self.lamented.remove(&index);
            }
            Link::Loopback => drop(self.loopback.insert(index)),
            Link::Unframed => drop(self.unframed.insert(index)),
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

    /// Where no operator names uplinks, these are some: clients outside come by them, and endpoints are behind them.
    fn leads_out(&mut self, indices: &[u32]) -> Vec<DeviceEvent> {
        self.leading_out.extend(indices);
        indices.iter().flat_map(|index| self.review(*index)).collect()
    }

    fn gone(&mut self, index: u32) -> Vec<DeviceEvent> {
        self.names.remove(&index);
        for of in [&mut self.leading_out, &mut self.loopback, &mut self.unframed, &mut self.lamented] {
            of.remove(&index);
        }
        let held = self.roles.remove(&index);
        held.map(|_| DeviceEvent::Release { index, vanished: true }).into_iter().collect()
    }

    /// A device that has another role than it was told to have.
    fn review(&mut self, index: u32) -> Vec<DeviceEvent> {
        let Some(name) = self.names.get(&index) else { return Vec::new() };
        // An address of the node's that routers are told of is on lo, and its packets come by other devices.
        let inward = self.loopback.contains(&index) || self.has_services(index);
        let leads_out = self.leading_out.contains(&index) && !inward;
        let wanted = self.selection.role(name, leads_out);
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
mod tests;
