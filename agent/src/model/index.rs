//! What is known of the cluster: Services, their slices, the service ranges, this node and its pods. The work of a
//! change is proportional to the change.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;
use ipnet::IpNet;

use super::{
    EndpointSlice, HostPorts, Namespace, Node, Pod, PodKey, Service, ServiceCidr, ServiceKey, ServicePort, SliceKey,
    SlicePort, SocketLb, Topology, shared::Shared,
};
use crate::watch::Change;

/// Applied to by changes, asked by `lb`.
#[derive(Debug, Default)]
pub struct Index {
    services: HashMap<ServiceKey, Entry>,
    /// Which Service a slice belonged to when it was last seen.
    slices: HashMap<SliceKey, ServiceKey>,
    cidrs: BTreeMap<Box<str>, ServiceCidr>,
    host_ports: BTreeMap<ServiceKey, Box<HostPorts>>,
    node: Option<Box<Node>>,
    /// Of this node.
    pods: BTreeMap<PodKey, Pod>,
    /// Those that say something of their pods.
    namespaces: BTreeMap<Box<str>, Namespace>,
    topologies: Shared<Topology>,
    service_ports: Shared<[ServicePort]>,
    slice_ports: Shared<[SlicePort]>,
}

/// A Service and the slices that name it; either may come first.
#[derive(Debug, Default)]
struct Entry {
    service: Option<Box<Service>>,
    /// Sorted by key, so that what is decided from them does not depend on the order of arrival.
    slices: Vec<EndpointSlice>,
}

/// What must be decided anew after a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    pub services: BTreeSet<ServiceKey>,
    /// The service ranges have changed.
    pub cidrs: bool,
    /// This node's own object has changed.
    pub node: bool,
    /// A pod of this node, or what its namespace says, has changed.
    pub pods: bool,
}

impl Index {
    /// Takes in what a source says; an object that has not changed makes nothing dirty.
    pub fn apply(&mut self, change: Change) -> Dirty {
        let mut dirty = Dirty::default();
        match change {
            Change::Service(key, service) => {
                if self.put_service(&key, service) {
                    dirty.services.insert(key);
                }
            }
            Change::EndpointSlice(key, slice) => self.put_slice(&key, slice, &mut dirty.services),
            Change::ServiceCidr(name, cidr) => {
                let before = self.cidrs();
                match cidr {
                    Some(cidr) => self.cidrs.insert(name, cidr),
                    None => self.cidrs.remove(&name),
                };
                dirty.cidrs = before != self.cidrs();
            }
            Change::HostPorts(owner, ports) => {
                let before = match ports.clone() {
                    Some(ports) => self.host_ports.insert(owner.clone(), ports),
                    None => self.host_ports.remove(&owner),
                };
                if before != ports {
                    dirty.services.insert(owner);
                }
            }
            Change::Node(node) => {
                dirty.node = self.node != node;
                self.node = node;
            }
            Change::Pod(key, pod) => dirty.pods = put(&mut self.pods, key, pod.map(|pod| *pod)),
            Change::Namespace(name, namespace) => dirty.pods = put(&mut self.namespaces, name, namespace),
            Change::Rejected(_) | Change::Settled(_) | Change::Synced | Change::PodsSynced => {}
        }
        dirty
    }

    /// `None`: there is no such Service (its slices may be there).
    #[must_use]
    pub fn service(&self, key: &ServiceKey) -> Option<&Service> {
        self.services.get(key)?.service.as_deref()
    }

    /// The slices of a Service, sorted by key.
    #[must_use]
    pub fn slices(&self, key: &ServiceKey) -> &[EndpointSlice] {
        self.services.get(key).map_or(&[], |entry| &entry.slices)
    }

    /// The Services that exist, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().filter_map(|entry| entry.service.as_deref())
    }

    /// The host ports that a sandbox's pod has, if `key` is one's.
    #[must_use]
    pub fn host_ports(&self, key: &ServiceKey) -> Option<&HostPorts> {
        self.host_ports.get(key).map(Box::as_ref)
    }

    /// Everybody whose frontends are decided here, in no order: Services, and owners of host ports.
    pub fn owners(&self) -> impl Iterator<Item = &ServiceKey> {
        self.services().map(|service| &service.key).chain(self.host_ports.keys())
    }

    /// All ranges of all ServiceCIDR objects.
    #[must_use]
    pub fn cidrs(&self) -> BTreeSet<IpNet> {
        self.cidrs.values().flat_map(|cidr| cidr.cidrs.iter().copied()).collect()
    }

    /// The node that the agent runs on, where a source knows it.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        self.node.as_deref()
    }

    /// The pods of this node, in order.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// What a namespace says of its pods.
    #[must_use]
    pub fn socket_lb(&self, namespace: &str) -> Option<SocketLb> {
        self.namespaces.get(namespace)?.socket_lb
    }

    fn put_service(&mut self, key: &ServiceKey, mut service: Option<Box<Service>>) -> bool {
        let known = self.services.get_key_value(key).map(|(key, _)| key.clone());
        if service.is_none() && known.is_none() {
            return false;
        }
        let key = &known.unwrap_or_else(|| key.clone());
        if let Some(service) = &mut service {
            service.key = key.clone();
            self.service_ports.share(&mut service.ports);
        }
        let entry = self.services.entry(key.clone()).or_default();
        let changed = entry.service != service;
        entry.service = service;
        self.forget_if_empty(key);
        changed
    }

    fn put_slice(&mut self, key: &SliceKey, slice: Option<Box<EndpointSlice>>, dirty: &mut BTreeSet<ServiceKey>) {
        let before = self.slices.get(key).cloned();
        // A slice whose label moved to another Service leaves the first.
        if let Some(owner) = before.filter(|owner| slice.as_ref().is_none_or(|slice| slice.service != *owner)) {
            self.slices.remove(key);
            if let Some(entry) = self.services.get_mut(&owner)
                && let Ok(at) = entry.slices.binary_search_by(|slice| slice.key.cmp(key))
            {
                entry.slices.remove(at);
            }
            self.forget_if_empty(&owner);
            dirty.insert(owner);
        }
        let Some(mut slice) = slice else { return };
        for endpoint in &mut slice.endpoints {
            endpoint.topology.iter_mut().for_each(|topology| self.topologies.share(topology));
        }
        self.slice_ports.share(&mut slice.ports);
        // One text for all that bears the Service's name.
        let known = self.services.get_key_value(&slice.service);
        let owner = known.map_or_else(|| slice.service.clone(), |(key, _)| key.clone());
        slice.service = owner.clone();
        let entry = self.services.entry(owner.clone()).or_default();
        match entry.slices.binary_search_by(|known| known.key.cmp(key)) {
            Ok(at) if entry.slices[at].decides_like(&slice) => {
                entry.slices[at] = *slice;
                return;
            }
            Ok(at) => entry.slices[at] = *slice,
            Err(at) => {
                // Most Services have one slice: no room for more is kept.
                entry.slices.reserve_exact(1);
                let slice_key = slice.key.clone();
                entry.slices.insert(at, *slice);
                self.slices.insert(slice_key, owner.clone());
            }
        }
        dirty.insert(owner);
    }

    fn forget_if_empty(&mut self, key: &ServiceKey) {
        if self.services.get(key).is_some_and(|entry| entry.service.is_none() && entry.slices.is_empty()) {
            self.services.remove(key);
        }
    }
}

/// True if that changes anything.
fn put<K: Ord, V: PartialEq>(known: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> bool {
    match value {
        None => known.remove(&key).is_some(),
        Some(value) if known.get(&key) == Some(&value) => false,
        Some(value) => {
            known.insert(key, value);
            true
        }
    }
}
