//! What an earlier agent left and this one has not decided on yet: nothing of it is taken away because the source could
//! not be understood. Pure.

use std::collections::BTreeSet;

use crate::{
    model::{Index, Service, ServiceKey},
    watch::{Doubt, ObjectKey},
};

/// Services that stand in the maps from before, and what is not known that may concern them.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    restored: BTreeSet<ServiceKey>,
    open: BTreeSet<Doubt>,
}

impl Doubts {
    /// `restored`: the services that the maps held at the start.
    pub(super) fn new(restored: impl IntoIterator<Item = ServiceKey>) -> Self {
        Self { restored: restored.into_iter().collect(), open: BTreeSet::new() }
    }

    pub(super) fn raise(&mut self, doubt: Doubt) {
        self.open.insert(doubt);
    }

    pub(super) fn settle(&mut self, doubt: &Doubt) {
        self.open.remove(doubt);
    }

    /// The services from before that have not been decided on.
    pub(super) fn restored(&self) -> impl Iterator<Item = &ServiceKey> {
        self.restored.iter()
    }

    #[must_use]
    pub(super) fn is_restored(&self, service: &ServiceKey) -> bool {
        self.restored.contains(service)
    }

    /// Whether the service has to stay as it was left.
    #[must_use]
    pub(super) fn hold(&self, service: &ServiceKey, index: &Index) -> bool {
        !self.open.is_empty()
            && self.restored.contains(service)
            && self.open.iter().any(|doubt| concerns(doubt, service, index))
    }

    /// All that have to stay as they were left.
    pub(super) fn held(&self, index: &Index) -> impl Iterator<Item = &ServiceKey> {
        self.restored.iter().filter(|service| self.hold(service, index))
    }

    /// This agent decides on it from now on: later doubts concern what it knows itself.
    pub(super) fn decided(&mut self, service: &ServiceKey) {
        self.restored.remove(service);
    }

    /// Whether a pod that says how it is to be translated, or its namespace, may be missing.
    #[must_use]
    pub(super) fn hide_pods(&self) -> bool {
        let pods = |doubt: &Doubt| {
            matches!(doubt, Doubt::File(_) | Doubt::Object(ObjectKey::Pod(_) | ObjectKey::Namespace(_)))
        };
        self.open.iter().any(pods)
    }

    /// Whether a range may be missing from those that the source has said.
    #[must_use]
    pub(super) fn hide_ranges(&self) -> bool {
        self.open.iter().any(|doubt| matches!(doubt, Doubt::File(_) | Doubt::Object(ObjectKey::ServiceCidr(_))))
    }
}

/// A service whose object is known, and endpoints of each of its families, goes on, though more of them may lie where
/// nothing can be read: what can be read of it shall take effect.
fn concerns(doubt: &Doubt, service: &ServiceKey, index: &Index) -> bool {
    let known = index.service(service);
    match doubt {
        // Where another file has it too, that one is in force.
        Doubt::Object(ObjectKey::Service(key)) => key == service && known.is_none(),
        // Which Service it belongs to is one of the things that it may not say.
        Doubt::Object(ObjectKey::EndpointSlice(slice)) => {
            slice.namespace() == service.parts().0 && known.is_some_and(|known| lacks_endpoints(known, index))
        }
        Doubt::Object(_) => false,
        // No file speaks of host ports.
        Doubt::File(_) => !service.is_sandbox() && known.is_none_or(|known| lacks_endpoints(known, index)),
    }
}

fn lacks_endpoints(service: &Service, index: &Index) -> bool {
    let endpoints = || index.slices(&service.key).iter().flat_map(|slice| &*slice.endpoints);
    let has = |v6: bool| endpoints().any(|endpoint| endpoint.address.is_ipv6() == v6);
    service.cluster_ips.iter().any(|ip| !has(ip.is_ipv6()))
}
