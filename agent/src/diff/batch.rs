//! A plan for several services at once.
//!
//! The order of a plan, over all its services:
//! 1. endpoints ([`super::port`]): never waits;
//! 2. new frontends, then the marks of their addresses;
//! 3. deletes: marks, frontends, then the sets and backends behind them;
//! 4. a grace period, and the frontends that moved from one record to another.
//!
//! An element deleted from FRONTENDS may be handed to the very next insert while a program still reads it. So no
//! insert follows a delete without a grace period between them: where an earlier plan has deleted and no grace period
//! has passed since, the inserts of step 2 move to step 4.

use std::net::IpAddr;

use foldhash::{HashMap, HashSet};

use super::{
    NoRoom, Op, Plan, Refusal, Step,
    guard::guard_ops,
    mirror::Mirror,
    port::{PortOps, endpoint_ops, give_back, unlink_ops},
};
use crate::{
    lb::{Family, Frontend, WantedPort},
    model::ServiceKey,
};

/// A plan in the making.
#[derive(Default)]
pub(super) struct Batch {
    pub plan: Plan,
    /// Frontends that nobody has.
    inserts: Vec<Step>,
    /// Frontends that another record has, or this one under another kind.
    moves: Vec<Step>,
    moved: HashSet<Frontend>,
    marks: Vec<Step>,
    marked: HashSet<IpAddr>,
    deletes: Vec<Step>,
    /// Frontends of kinds that own their address which it wins (or loses) by this plan.
    balance: HashMap<IpAddr, i64>,
    /// Entries that this plan adds to FRONTENDS.
    added: [u32; 2],
    losing: Vec<Losing>,
    leaving: Vec<Leaving>,
    /// Source ranges go, which may make room for others.
    deletes_ranges: bool,
}

/// A record that stays without these frontends.
struct Losing {
    group: u32,
    frontends: Vec<Frontend>,
}

/// A record that nobody wants.
struct Leaving {
    group: u32,
    index: u32,
}

impl Batch {
    /// True when a port was refused, or must wait (`again`: not for the first time).
    pub(super) fn service(
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
                // Room that this plan or a grace period will make is no reason to alarm anybody.
                if again || !(mirror.makes_room_later() || self.deletes_ranges) {
                    self.plan.refused.push(Refusal { port: port.name.clone(), reason });
                }
            }
        }
        let unwanted: Vec<u32> =
            mirror.indices(service).iter().copied().filter(|index| !kept.contains(index)).collect();
        for index in unwanted {
            mirror.leave(index);
            self.leaving.push(Leaving { group, index });
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
        let room = endpoint_ops(mirror, index, port).and_then(|found| match self.room_for_frontends(mirror, port) {
            Ok(()) => Ok(found),
            Err(no_room) => {
                give_back(mirror, &found.ops);
                Err(no_room)
            }
        });
        let PortOps { ops, lacks } = match (room, known) {
            (Ok(found), _) => found,
            // What is in the maps of it stays, but for whom it lets in.
            (Err(no_room), Some(index)) => {
                let ops = guard_ops(mirror, index, port);
                self.steps(group, ops);
                return (Some(index), Err(no_room));
            }
            (Err(no_room), None) => {
                mirror.remove_record(index);
                return (None, Err(no_room));
            }
        };
        if known.is_none() {
            mirror.loans.records.push(index);
        }
        mirror.stay(index);
        self.steps(group, ops);
        self.frontends(mirror, group, index, port);
        (Some(index), lacks.map_or(Ok(()), Err))
    }

    fn steps(&mut self, group: u32, ops: Vec<Op>) {
        self.deletes_ranges |= ops.iter().any(|op| matches!(op, Op::DeleteRange { .. }));
        self.plan.steps.extend(ops.into_iter().map(|op| Step { group, op }));
    }

    fn room_for_frontends(&self, mirror: &Mirror, port: &WantedPort) -> Result<(), NoRoom> {
        let (family, mut needed) = (port.name.family, 0);
        for (frontend, kind) in &port.frontends {
            needed += u32::from(!mirror.frontends.contains_key(frontend));
            needed += u32::from(kind.owns_address() && !self.is_marked(mirror, &frontend.address));
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
        Err(NoRoom::Full { map, capacity, flag: "--max-frontends" })
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
                    *self.balance.entry(frontend.address).or_default() += i64::from(kind.owns_address());
                }
                Some(held) if *held == (kind, index) => drop(mirror.stale.remove(&frontend)),
                Some(_) => {
                    self.moved.insert(frontend);
                    self.deletes.push(Step { group, op: Op::DeleteFrontend { frontend } });
                    self.moves.push(insert);
                }
            }
            if kind.owns_address() && !self.is_marked(mirror, &frontend.address) {
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
            self.losing.push(Losing { group, frontends: lost });
        }
    }

    /// Deletes are known only when all services of the plan have said which frontends they take over.
    pub(super) fn finish(mut self, mirror: &Mirror) -> Plan {
        for Leaving { group, index } in std::mem::take(&mut self.leaving) {
            let frontends = mirror.record(index).map_or(Vec::new(), |record| record.frontends.clone());
            self.lose(mirror, group, frontends);
            let ops = unlink_ops(mirror, index).into_iter().filter(|op| !matches!(op, Op::DeleteFrontend { .. }));
            self.deletes.extend(ops.map(|op| Step { group, op }));
        }
        for Losing { group, frontends } in std::mem::take(&mut self.losing) {
            self.lose(mirror, group, frontends);
        }
        let waits = self.inserts.iter().chain(&self.marks).any(|step| match step.op {
            Op::InsertFrontend { frontend, .. } => mirror.deleted.of(frontend.family()).is_some(),
            Op::InsertOwned { address } => mirror.deleted.of(Family::of(address)).is_some(),
            _ => false,
        });
        let Self { mut plan, inserts, moves, marks, deletes, .. } = self;
        let later: Vec<Step> = if waits {
            [inserts, moves, marks].into_iter().flatten().collect()
        } else {
            plan.steps.extend(inserts.into_iter().chain(marks));
            moves
        };
        plan.steps.extend(deletes);
        if !later.is_empty() {
            plan.steps.push(Step { group: Step::EVERYBODY, op: Op::Grace });
            plan.steps.extend(later);
        }
        plan
    }

    fn lose(&mut self, mirror: &Mirror, group: u32, lost: Vec<Frontend>) {
        for frontend in lost.into_iter().filter(|frontend| !self.moved.contains(frontend)) {
            let balance = self.balance.entry(frontend.address).or_default();
            let owns = mirror.frontends.get(&frontend).is_none_or(|(kind, _)| kind.owns_address());
            *balance -= i64::from(owns);
            let address = mirror.address(&frontend.address);
            if owns && address.marked && i64::from(address.frontends) + *balance == 0 {
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
