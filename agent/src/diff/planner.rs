//! Wanted services in, operations out; keeps the mirror of the maps.
//!
//! The order of a plan, over all its services:
//! 1. endpoints ([`super::draft`]): never waits;
//! 2. new frontends, then the marks of their addresses;
//! 3. deletes: marks, frontends, then the sets and backends behind them;
//! 4. a grace period, and the frontends that moved from one record to another.
//!
//! An element deleted from FRONTENDS may be handed to the very next insert while a program still reads it. So no
//! insert follows a delete without a grace period between them: where an earlier plan has deleted and no grace period
//! has passed since, the inserts of step 2 move to step 4.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    ops::Bound,
};

use ipnet::IpNet;

use super::{
    NoRoom, Op, Plan, Refusal, Sizes, Step, Ticket, Usage,
    draft::{endpoint_ops, give_back, unlink_ops, zero_ops},
    mirror::Mirror,
};
use crate::{
    lb::{Family, Frontend, WantedPort},
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
        Self::over(Mirror::new(sizes))
    }

    pub(super) fn over(mirror: Mirror) -> Self {
        Self { mirror, repairs: Vec::new(), refused: BTreeSet::new(), retried: None, room: false }
    }

    /// Brings each service to exactly these ports; an empty list deletes it. The work is proportional to what the
    /// services in `batch` are and were; a service that is in the maps as wanted already takes no operation.
    pub fn plan<'a>(&mut self, batch: impl IntoIterator<Item = (&'a ServiceKey, &'a [WantedPort])>) -> Plan {
        let mut draft = Draft::default();
        for (service, ports) in batch {
            let group = draft.plan.groups.len() as u32;
            draft.plan.groups.push(Some(service.clone()));
            let again = self.refused.contains(service);
            let refused = draft.service(&mut self.mirror, group, service, ports, again);
            if refused {
                self.refused.insert(service.clone());
            } else if !self.refused.is_empty() && self.refused.remove(service) {
                self.room = true;
            }
        }
        draft.finish(&self.mirror)
    }

    /// Brings the service ranges to exactly these.
    #[must_use]
    pub fn plan_cidrs(&self, wanted: &BTreeSet<IpNet>) -> Plan {
        let inserts = wanted.difference(&self.mirror.cidrs).map(|&cidr| Op::InsertCidr { cidr });
        let deletes = self.mirror.cidrs.difference(wanted).map(|&cidr| Op::DeleteCidr { cidr });
        housekeeping(inserts.chain(deletes).map(|op| vec![op]))
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
            Op::Grace | Op::DeleteFrontend { .. } | Op::DeleteOwned { .. } => true,
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

    /// How full the maps are.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            sizes: self.mirror.sizes,
            services: self.mirror.records_in_use(),
            backends: self.mirror.backends.in_use(),
            frontends: self.mirror.entries.both().map(|entries| *entries),
            slots: self.mirror.arenas.both().map(super::Arena::occupancy),
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

/// A plan in the making.
#[derive(Default)]
struct Draft {
    plan: Plan,
    /// Frontends that nobody has.
    inserts: Vec<Step>,
    /// Frontends that another record has, or this one under another kind.
    moves: Vec<Step>,
    moved: HashSet<Frontend>,
    marks: Vec<Step>,
    marked: HashSet<IpAddr>,
    deletes: Vec<Step>,
    /// Frontends that an address wins (or loses) by this plan.
    balance: HashMap<IpAddr, i64>,
    /// Entries that this plan adds to FRONTENDS.
    added: [u32; 2],
    /// Records that lose frontends: index, group, and whether the record itself goes.
    losing: Vec<(u32, u32, Vec<Frontend>)>,
    leaving: Vec<(u32, u32)>,
}

impl Draft {
    /// True when a port was refused, or must wait (`again`: not for the first time).
    fn service(
        &mut self,
        mirror: &mut Mirror,
        group: u32,
        service: &ServiceKey,
        ports: &[WantedPort],
        again: bool,
    ) -> bool {
        let mut kept = Vec::with_capacity(ports.len());
        let mut refused = false;
        for port in ports.iter().filter(|port| !port.frontends.is_empty()) {
            let (index, result) = self.port(mirror, group, port, ports);
            kept.extend(index);
            if let Err(reason) = result {
                refused = true;
                // Room that a grace period will make is no reason to alarm anybody.
                if again || !mirror.makes_room_later() {
                    self.plan.refused.push(Refusal { port: port.name.clone(), reason });
                }
            }
        }
        let unwanted: Vec<u32> =
            mirror.indices(service).iter().copied().filter(|index| !kept.contains(index)).collect();
        for index in unwanted {
            mirror.leave(index);
            self.leaving.push((index, group));
        }
        refused
    }

    fn port(
        &mut self,
        mirror: &mut Mirror,
        group: u32,
        port: &WantedPort,
        siblings: &[WantedPort],
    ) -> (Option<u32>, Result<(), NoRoom>) {
        let known = mirror.find(&port.name).or_else(|| adopt(mirror, port, siblings));
        let Some(index) = known.or_else(|| mirror.add_record(&port.name)) else {
            let capacity = mirror.sizes.services;
            return (None, Err(NoRoom::Full { map: "SERVICES", capacity, flag: "--max-services" }));
        };
        let room = endpoint_ops(mirror, index, port).and_then(|ops| match self.room_for_frontends(mirror, port) {
            Ok(()) => Ok(ops),
            Err(no_room) => {
                give_back(mirror, &ops);
                Err(no_room)
            }
        });
        let ops = match (room, known) {
            (Ok(ops), _) => ops,
            // What is in the maps of it stays.
            (Err(no_room), Some(index)) => return (Some(index), Err(no_room)),
            (Err(no_room), None) => {
                mirror.remove_record(index);
                return (None, Err(no_room));
            }
        };
        if known.is_none() {
            mirror.loans.records.push(index);
        }
        mirror.stay(index);
        self.plan.steps.extend(ops.into_iter().map(|op| Step { group, op }));
        self.frontends(mirror, group, index, port);
        (Some(index), Ok(()))
    }

    fn room_for_frontends(&self, mirror: &Mirror, port: &WantedPort) -> Result<(), NoRoom> {
        let (family, mut needed) = (port.name.family, 0);
        for frontend in port.frontends.keys() {
            needed += u32::from(!mirror.frontends.contains_key(frontend));
            needed += u32::from(!self.is_marked(mirror, &frontend.address));
        }
        let capacity = mirror.sizes.frontends;
        let taken = *mirror.entries.of(family) + self.added[family as usize];
        if needed == 0 || taken.saturating_add(needed) <= capacity {
            return Ok(());
        }
        let map = match family {
            Family::V4 => "FRONTENDS_V4",
            Family::V6 => "FRONTENDS_V6",
        };
        Err(NoRoom::Full { map, capacity, flag: "--max-services" })
    }

    fn is_marked(&self, mirror: &Mirror, address: &IpAddr) -> bool {
        mirror.address(address).marked || self.marked.contains(address)
    }

    fn frontends(&mut self, mirror: &mut Mirror, group: u32, index: u32, port: &WantedPort) {
        let family = port.name.family as usize;
        for (&frontend, &kind) in &port.frontends {
            let insert = Step { group, op: Op::InsertFrontend { frontend, kind, index } };
            match mirror.frontends.get(&frontend) {
                None => {
                    self.inserts.push(insert);
                    self.added[family] += 1;
                    *self.balance.entry(frontend.address).or_default() += 1;
                }
                Some(held) if *held == (kind, index) => drop(mirror.stale.remove(&frontend)),
                Some(_) => {
                    self.moved.insert(frontend);
                    self.deletes.push(Step { group, op: Op::DeleteFrontend { frontend } });
                    self.moves.push(insert);
                }
            }
            if !self.is_marked(mirror, &frontend.address) {
                self.marked.insert(frontend.address);
                self.added[family] += 1;
                self.marks.push(Step { group, op: Op::InsertOwned { address: frontend.address } });
            }
        }
        let held = mirror.record(index).map_or(&[][..], |record| &record.frontends);
        let lost: Vec<Frontend> = held.iter().copied().filter(|f| !port.frontends.contains_key(f)).collect();
        if !lost.is_empty() {
            // Whoever deletes them, and whether that succeeds or not: they are not forgotten.
            mirror.stale.extend(&lost);
            self.losing.push((index, group, lost));
        }
    }

    /// Deletes are known only when all services of the plan have said which frontends they take over.
    fn finish(mut self, mirror: &Mirror) -> Plan {
        for (index, group) in std::mem::take(&mut self.leaving) {
            let (frontends, rest): (Vec<Op>, Vec<Op>) =
                unlink_ops(mirror, index).into_iter().partition(|op| matches!(op, Op::DeleteFrontend { .. }));
            let lost = frontends.into_iter().filter_map(|op| match op {
                Op::DeleteFrontend { frontend } => Some(frontend),
                _ => None,
            });
            self.lose(mirror, group, lost.collect());
            self.deletes.extend(rest.into_iter().map(|op| Step { group, op }));
        }
        for (_, group, lost) in std::mem::take(&mut self.losing) {
            self.lose(mirror, group, lost);
        }
        let has_deleted = |steps: &[Step]| {
            let family = |step: &Step| match step.op {
                Op::InsertFrontend { frontend, .. } => Some(frontend.family()),
                Op::InsertOwned { address } => Some(Family::of(address)),
                _ => None,
            };
            steps.iter().filter_map(family).any(|family| mirror.deleted.of(family).is_some())
        };
        let Self { mut plan, inserts, moves, marks, deletes, .. } = self;
        let waits = has_deleted(&inserts) || has_deleted(&marks);
        let (now, later) = if waits {
            (Vec::new(), [inserts, moves, marks])
        } else {
            ([inserts, marks].concat(), [Vec::new(), moves, Vec::new()])
        };
        plan.steps.extend(now);
        plan.steps.extend(deletes);
        if later.iter().any(|steps| !steps.is_empty()) {
            plan.steps.push(Step { group: Step::EVERYBODY, op: Op::Grace });
            plan.steps.extend(later.into_iter().flatten());
        }
        plan
    }

    fn lose(&mut self, mirror: &Mirror, group: u32, lost: Vec<Frontend>) {
        for frontend in lost.into_iter().filter(|frontend| !self.moved.contains(frontend)) {
            let balance = self.balance.entry(frontend.address).or_default();
            *balance -= 1;
            let address = mirror.address(&frontend.address);
            if address.marked && i64::from(address.frontends) + *balance == 0 {
                self.deletes.push(Step { group, op: Op::DeleteOwned { address: frontend.address } });
            }
            self.deletes.push(Step { group, op: Op::DeleteFrontend { frontend } });
        }
    }
}

/// A port that was renamed keeps its record, and so its flows and its frontends: the record of the same service that
/// has one of the port's frontends and whose own name nobody wants any more.
fn adopt(mirror: &mut Mirror, port: &WantedPort, siblings: &[WantedPort]) -> Option<u32> {
    let index = port.frontends.keys().find_map(|frontend| {
        let (_, index) = mirror.frontends.get(frontend)?;
        let name = mirror.record(*index)?.name.as_ref()?;
        let alike = name.service == port.name.service && name.protocol == port.name.protocol;
        (alike && siblings.iter().all(|sibling| sibling.name != *name)).then_some(*index)
    })?;
    let record = mirror.record_mut(index)?;
    record.name = Some(port.name.clone());
    record.named = false;
    Some(index)
}
