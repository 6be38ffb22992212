//! What the decisions came to besides the maps: for the log, where it is said once, and for metrics. Pure but for the log.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;
use millrace_common::{maps, service::Attributes};
use tracing::{info, warn};

use crate::{
    diff::{Plan, Refusal},
    lb::{Conflict, Decision, HealthCheck, Set, WantedPort},
    model::ServiceKey,
    watch::{Doubt, ObjectKey, Warning, WarningReason},
};

/// Services that one line of the log names, of many.
const NAMED: usize = 5;
/// Warnings that wait to be told: far more than an agent may write at a time, and the log has them all.
const WARNINGS: usize = 256;

/// Service by Service, as last decided; of those that nothing is to be said of, nothing is kept.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Ports that the maps have no room for.
    refused: HashMap<ServiceKey, Vec<Refusal>>,
    conflicts: HashMap<ServiceKey, Vec<Conflict>>,
    of_the_node: HashMap<ServiceKey, BTreeSet<IpAddr>>,
    no_local: BTreeMap<ServiceKey, NoLocal>,
    health_checks: BTreeMap<ServiceKey, HealthCheck>,
    /// Service ranges that there is no room for.
    ranges: BTreeSet<IpNet>,
    /// What owners of objects have not been told yet.
    warnings: Vec<Warning>,
}

/// Which Local policies of a Service have no local endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct NoLocal {
    internal: bool,
    external: bool,
}

impl Findings {
    /// Nothing of the object can be put in force.
    pub(super) fn rejected(&mut self, object: &str, reason: &str, doubt: &Doubt) {
        warn!(object, reason, "rejected; what was known of it stays");
        if let Doubt::Object(key @ (ObjectKey::Service(_) | ObjectKey::EndpointSlice(_))) = doubt {
            self.tell(key.clone(), WarningReason::Rejected, format!("{reason}; what was known of it stays in force"));
        }
    }

    /// These stay as an earlier agent left them.
    pub(super) fn held(&mut self, services: &[ServiceKey]) {
        if services.is_empty() {
            return;
        }
        let some = services.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let until = "until what was rejected is corrected or removed";
        warn!(services = services.len(), some, "stay as an earlier agent left them {until}");
        for service in services.iter().take(WARNINGS) {
            let note = format!("stays as an earlier agent left it on this node {until}");
            self.tell(ObjectKey::Service(service.clone()), WarningReason::Held, note);
        }
    }

    /// What to tell the owners of objects, once.
    pub(super) fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    fn tell(&mut self, object: ObjectKey, reason: WarningReason, note: String) {
        // A pod's host ports are no object of an API.
        let is_object = !matches!(&object, ObjectKey::Service(key) if key.is_sandbox());
        if is_object && self.warnings.len() < WARNINGS {
            self.warnings.push(Warning { object, reason, note });
        }
    }

    pub(super) fn decided(&mut self, key: &ServiceKey, decision: &Decision) {
        let known = self.conflicts.get(key).cloned().unwrap_or_default();
        for conflict in decision.conflicts.iter().filter(|conflict| !known.contains(conflict)) {
            warn!(service = %key, %conflict, "a frontend is left out");
            self.tell(ObjectKey::Service(key.clone()), WarningReason::FrontendTaken, conflict.to_string());
        }
        keep(&mut self.conflicts, key, &decision.conflicts, decision.conflicts.is_empty());
        let known = self.of_the_node.get(key);
        for address in decision.of_the_node.iter().filter(|address| known.is_none_or(|known| !known.contains(address)))
        {
            info!(service = %key, %address, "assigned on this node: whoever listens there serves it");
        }
        keep(&mut self.of_the_node, key, &decision.of_the_node, decision.of_the_node.is_empty());
        match decision.health_check {
            None => self.health_checks.remove(key),
            Some(check) => self.health_checks.insert(key.clone(), check),
        };
        match no_local(&decision.ports) {
            NoLocal { internal: false, external: false } => self.no_local.remove(key),
            found => self.no_local.insert(key.clone(), found),
        };
    }

    /// The plan for these services was made.
    pub(super) fn planned<'a>(&mut self, services: impl Iterator<Item = &'a ServiceKey>, plan: &Plan) {
        let mut before: HashMap<ServiceKey, Vec<Refusal>> =
            services.filter_map(|key| self.refused.remove_entry(key)).collect();
        for refusal in &plan.refused {
            let service = &refusal.port.service;
            if !before.get_mut(service).is_some_and(|known| known.contains(refusal)) {
                let said = if refusal.reason.is_partial() { "not programmed as wanted" } else { "not programmed" };
                warn!(port = %refusal.port, reason = %refusal.reason, "{said}");
                self.tell(
                    ObjectKey::Service(service.clone()),
                    WarningReason::NoRoom,
                    format!("{}: {said}: {}", refusal.port, refusal.reason),
                );
            }
            self.refused.entry(service.clone()).or_default().push(refusal.clone());
        }
    }

    /// Of all service ranges, these do not fit.
    pub(super) fn ranges_left_out(&mut self, ranges: BTreeSet<IpNet>) {
        for range in ranges.difference(&self.ranges) {
            warn!(
                %range,
                capacity = maps::SERVICE_CIDRS,
                "a service range is left out, for the map SERVICE_CIDRS is full: traffic to its addresses that no service has is \
                 forwarded; name one range that holds several with --service-cidr, or delete ServiceCIDR objects"
            );
        }
        self.ranges = ranges;
    }

    /// Ports that there is no room for, and the Services that have them.
    pub(super) fn refused(&self) -> (usize, usize) {
        (self.refused.values().map(Vec::len).sum(), self.refused.len())
    }

    pub(super) fn conflicts(&self) -> usize {
        self.conflicts.values().map(Vec::len).sum()
    }

    /// How many services have a Local policy and no local endpoint: internal, external.
    pub(super) fn no_local(&self) -> (usize, usize) {
        let count = |of: fn(&NoLocal) -> bool| self.no_local.values().filter(|found| of(found)).count();
        (count(|found| found.internal), count(|found| found.external))
    }

    pub(super) fn health_checks(&self) -> &BTreeMap<ServiceKey, HealthCheck> {
        &self.health_checks
    }
}

fn keep<T: Clone>(all: &mut HashMap<ServiceKey, T>, key: &ServiceKey, now: &T, is_empty: bool) {
    if is_empty {
        all.remove(key);
    } else {
        all.insert(key.clone(), now.clone());
    }
}

fn no_local(ports: &[WantedPort]) -> NoLocal {
    let without = |flag: u64| ports.iter().any(|port| port.attributes.has(flag) && port.local == Set::Drop);
    NoLocal { internal: without(Attributes::INTERNAL_LOCAL), external: without(Attributes::EXTERNAL_LOCAL) }
}
