//! Wanted services in, operations out; keeps the mirror of the maps.

use std::{collections::BTreeSet, ops::Bound};

use foldhash::HashSet;
use ipnet::IpNet;
use millrace_common::maps;

use super::{
    CidrPlan, Op, Plan, Sizes, Step, Ticket, Usage,
    batch::Batch,
    cidrs,
    mirror::Mirror,
    port::{unlink_ops, zero_ops},
};
use crate::{
    lb::{Frontend, WantedPort},
    model::ServiceKey,
};

/// Refused services that are tried again at a time.
const RETRIES: usize = 64;

/// Plans one batch at a time: [`Self::plan`], then [`Self::record`] for each operation that succeeded, then
/// [`Self::settle`].
#[derive(Debug)]
pub struct Planner {
    pub(super) mirror: Mirror,
    /// What start-up found wrong in the maps.
    pub(super) repairs: Vec<Op>,
    /// Services with a refused port.
    refused: BTreeSet<ServiceKey>,
    /// Where the last retry ended, so that each gets its turn.
    retried: Option<ServiceKey>,
    /// Something was freed since the last retry, or the last retry succeeded.
    room: bool,
}

impl Planner {
    /// For maps that are empty.
    #[must_use]
    pub fn new(sizes: Sizes) -> Self {
        let (repairs, refused) = (Vec::new(), BTreeSet::new());
        Self { mirror: Mirror::new(sizes), repairs, refused, retried: None, room: false }
    }

    /// Brings each service to exactly these ports; an empty list deletes it. The work is proportional to what the
    /// services in `batch` are and were; a service that is in the maps as wanted already takes no operation.
    pub fn plan<'a>(&mut self, batch: impl IntoIterator<Item = (&'a ServiceKey, &'a [WantedPort])>) -> Plan {
        let mut wanted = Batch::default();
        for (service, ports) in batch {
            let group = wanted.plan.groups.len() as u32;
            wanted.plan.groups.push(Some(service.clone()));
            let again = self.refused.contains(service);
            let refused = wanted.service(&mut self.mirror, group, service, ports, again);
            if refused {
                self.refused.insert(service.clone());
            } else if !self.refused.is_empty() && self.refused.remove(service) {
                self.room = true;
            }
        }
        wanted.finish(&self.mirror)
    }

    /// Brings the service ranges to these, as far as there is room for them.
    #[must_use]
    pub fn plan_cidrs(&self, wanted: &BTreeSet<IpNet>) -> CidrPlan {
        let choice = cidrs::choose(&self.mirror.cidrs, wanted, maps::SERVICE_CIDRS);
        let inserts = choice.inserts.into_iter().map(|cidr| Op::InsertCidr { cidr });
        let deletes = choice.deletes.into_iter().map(|cidr| Op::DeleteCidr { cidr });
        // Between a delete and its insert, what no service has is forwarded for a moment: only where there is no room for both.
        let ops: Vec<Op> =
            if choice.crowded { deletes.chain(inserts).collect() } else { inserts.chain(deletes).collect() };
        CidrPlan { plan: housekeeping(ops.into_iter().map(|op| vec![op])), left_out: choice.left_out }
    }

    /// What is to be done beside the services' wishes: repairs after a restart, records whose last reader has gone,
    /// remains of operations that failed. Worth a call at start-up before anything else, after [`Self::graced`], and
    /// after a plan that failed in part.
    #[must_use]
    pub fn chores(&self) -> Plan {
        let mirror = &self.mirror;
        let repairs = self.repairs.iter().map(|op| vec![op.clone()]);
        let unlinking = mirror.unlinking.iter().map(|index| unlink_ops(mirror, *index));
        let is_leaving = |frontend: &Frontend| {
            let record = mirror.frontends.get(frontend).and_then(|(_, index)| mirror.record(*index));
            record.is_some_and(|record| record.leaving.is_some())
        };
        let stale = mirror.stale.iter().filter(|frontend| !is_leaving(frontend));
        let stale = stale.map(|&frontend| vec![Op::DeleteFrontend { frontend }]);
        let marks = mirror.unowned.iter().map(|&address| vec![Op::DeleteOwned { address }]);
        let zeroing = mirror.zeroing.iter().map(|index| zero_ops(mirror, *index));
        housekeeping(repairs.chain(unlinking).chain(stale).chain(marks).chain(zeroing))
    }

    /// The operation was carried out.
    pub fn record(&mut self, op: &Op) {
        self.mirror.apply(op);
        if !self.repairs.is_empty() {
            self.repairs.retain(|repair| repair != op);
        }
        self.room |= match op {
            Op::Grace | Op::DeleteFrontend { .. } | Op::DeleteOwned { .. } | Op::DeleteRange { .. } => true,
            Op::StoreName { name, .. } => name.0[0] == 0,
            _ => false,
        };
    }

    /// The plan's end: whatever it took and did not use is free again.
    pub fn settle(&mut self) {
        self.mirror.return_loans();
    }

    /// Asks for a grace period where something waits for one: when one that begins after this call is over, say so
    /// with [`Self::graced`]. Nothing waits for it but reuse; so it belongs off the critical path.
    #[must_use]
    pub fn pending_grace(&mut self) -> Option<Ticket> {
        self.mirror.waits_for_grace().then(|| {
            let ticket = self.mirror.ticket;
            self.mirror.ticket = ticket.next();
            ticket
        })
    }

    /// The grace period that was asked for with `ticket` is over.
    pub fn graced(&mut self, ticket: Ticket) {
        self.room |= self.mirror.reclaim(ticket);
    }

    /// Refused services that are worth another try, a few at a time: decide and plan them anew.
    #[must_use]
    pub fn retry(&mut self) -> Vec<ServiceKey> {
        if !std::mem::take(&mut self.room) || self.refused.is_empty() {
            return Vec::new();
        }
        let start = self.retried.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let mut keys: Vec<ServiceKey> = self.refused.range((start, Bound::Unbounded)).take(RETRIES).cloned().collect();
        if keys.len() < RETRIES {
            let rest = RETRIES - keys.len();
            let known: HashSet<ServiceKey> = keys.iter().cloned().collect();
            keys.extend(self.refused.iter().filter(|key| !known.contains(*key)).take(rest).cloned());
        }
        self.retried = keys.last().cloned();
        keys
    }

    /// Services with a record in the maps, in no order: after a restart, those that the sources no longer have are
    /// planned with no port.
    pub fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        self.mirror.services()
    }

    /// The frontends that a Service has in the maps.
    pub fn frontends(&self, service: &ServiceKey) -> impl Iterator<Item = Frontend> {
        let records = self.mirror.indices(service).iter().filter_map(|index| self.mirror.record(*index));
        records.flat_map(|record| record.frontends.iter().copied())
    }

    /// The service ranges in the maps.
    #[must_use]
    pub fn cidrs(&self) -> &BTreeSet<IpNet> {
        &self.mirror.cidrs
    }

    fn cidr_entries(&self) -> [u32; 2] {
        let of = |v6: bool| self.mirror.cidrs.iter().filter(|cidr| matches!(cidr, IpNet::V6(_)) == v6).count() as u32;
        [of(false), of(true)]
    }

    /// How full the maps are.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            sizes: self.mirror.sizes,
            services: self.mirror.records_in_use(),
            backends: self.mirror.backends.in_use(),
            frontends: self.mirror.entries.both().map(|entries| *entries),
            slots: self.mirror.arenas.both().map(super::Arena::occupancy),
            source_ranges: self.mirror.range_entries.both().map(|entries| *entries),
            cidrs: self.cidr_entries(),
            refused: self.refused.len(),
        }
    }
}

/// Each list is a group of its own; nothing is planned anew when one fails.
fn housekeeping(groups: impl Iterator<Item = Vec<Op>>) -> Plan {
    let mut plan = Plan::default();
    for ops in groups.filter(|ops| !ops.is_empty()) {
        let group = plan.groups.len() as u32;
        plan.groups.push(None);
        plan.steps.extend(ops.into_iter().map(|op| Step { group, op }));
    }
    plan
}
