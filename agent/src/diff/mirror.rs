//! What the maps hold now, as far as this agent wrote it or found it: changed only by operations that succeeded.

mod frontends;
mod leaving;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use foldhash::HashMap;
use ipnet::IpNet;
use millrace_common::{
    backend::BackendState,
    frontend::FrontendKind,
    service::{ServiceName, SetWord},
};

use super::{
    Op, Sizes, Word,
    arena::{Arena, Block},
    backends::{Backends, NOBODY},
    grace::{Graves, Ticket},
    record::{Leaving, Member, Published, Record},
};
use crate::{
    lb::{Family, Frontend, PortName},
    model::ServiceKey,
};

/// The state of all maps that services live in.
#[derive(Debug)]
pub(super) struct Mirror {
    pub sizes: Sizes,
    /// By index.
    records: Vec<Option<Box<Record>>>,
    free_indices: Vec<u32>,
    by_service: HashMap<ServiceKey, Vec<u32>>,
    pub frontends: HashMap<Frontend, (FrontendKind, u32)>,
    addresses: HashMap<IpAddr, Address>,
    /// Entries of FRONTENDS, marks included.
    pub entries: PerFamily<u32>,
    /// Something was deleted from FRONTENDS; an insert waits for this ticket's grace period.
    pub deleted: PerFamily<Option<Ticket>>,
    pub arenas: PerFamily<Arena>,
    pub backends: Backends,
    pub cidrs: BTreeSet<IpNet>,
    /// Source ranges, by record; few have any.
    pub ranges: BTreeMap<u32, BTreeSet<IpNet>>,
    /// How many there are.
    pub range_entries: PerFamily<u32>,
    /// Records that are leaving, by how far they are: something leads to them or they to something,
    pub unlinking: BTreeSet<u32>,
    /// nothing does, but a reader may be on its way,
    pub unlinked: Graves<u32>,
    /// nobody can be reading them: words and name are to be zeroed.
    pub zeroing: BTreeSet<u32>,
    /// Frontends that the holder of the record no longer wants, or that lead nowhere.
    pub stale: BTreeSet<Frontend>,
    /// Marks of addresses that no frontend has any more.
    pub unowned: BTreeSet<IpAddr>,
    /// Handed out by a plan, seen by no program yet.
    pub loans: Loans,
    /// Stamps what is unlinked now.
    pub ticket: Ticket,
}

/// A frontends' address.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Address {
    /// Of kinds that own the whole address.
    pub frontends: u32,
    pub marked: bool,
}

/// What a plan took from the allocators.
#[derive(Debug, Default)]
pub(super) struct Loans {
    /// By family and base.
    pub blocks: HashMap<(Family, u32), LoanedBlock>,
    pub ids: Vec<u32>,
    pub records: Vec<u32>,
    /// Source ranges that the plan inserts.
    pub ranges: PerFamily<u32>,
}

/// A block, and the backend ids that are written to it.
pub(super) type LoanedBlock = (Block, Arc<[u32]>);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PerFamily<T> {
    v4: T,
    v6: T,
}

impl<T> PerFamily<T> {
    pub(super) fn new(v4: T, v6: T) -> Self {
        Self { v4, v6 }
    }

    pub(super) fn of(&self, family: Family) -> &T {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    pub(super) fn of_mut(&mut self, family: Family) -> &mut T {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    pub(super) fn both(&self) -> [&T; 2] {
        [&self.v4, &self.v6]
    }
}

impl Mirror {
    pub(super) fn new(sizes: Sizes) -> Self {
        Self {
            sizes,
            records: Vec::new(),
            free_indices: Vec::new(),
            by_service: HashMap::default(),
            frontends: HashMap::default(),
            addresses: HashMap::default(),
            entries: PerFamily::default(),
            deleted: PerFamily::default(),
            arenas: PerFamily::new(Arena::new(sizes.slots), Arena::new(sizes.slots)),
            backends: Backends::new(sizes.backends),
            cidrs: BTreeSet::new(),
            ranges: BTreeMap::new(),
            range_entries: PerFamily::default(),
            unlinking: BTreeSet::new(),
            unlinked: Graves::default(),
            zeroing: BTreeSet::new(),
            stale: BTreeSet::new(),
            unowned: BTreeSet::new(),
            loans: Loans::default(),
            ticket: Ticket::default().next(),
        }
    }

    pub(super) fn record(&self, index: u32) -> Option<&Record> {
        self.records.get(index as usize)?.as_deref()
    }

    pub(super) fn record_mut(&mut self, index: u32) -> Option<&mut Record> {
        self.records.get_mut(index as usize)?.as_deref_mut()
    }

    pub(super) fn address(&self, ip: &IpAddr) -> Address {
        self.addresses.get(ip).copied().unwrap_or_default()
    }

    /// Indices of a service's records, those that are leaving included.
    pub(super) fn indices(&self, service: &ServiceKey) -> &[u32] {
        self.by_service.get(service).map_or(&[], Vec::as_slice)
    }

    pub(super) fn find(&self, name: &PortName) -> Option<u32> {
        let named = |index: &u32| self.record(*index).and_then(|record| record.name.as_ref()) == Some(name);
        self.indices(&name.service).iter().copied().find(named)
    }

    /// Services with a record that is not leaving.
    pub(super) fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        let stays = |index: &u32| self.record(*index).is_some_and(|record| record.leaving.is_none());
        self.by_service.iter().filter(move |(_, indices)| indices.iter().any(stays)).map(|(service, _)| service)
    }

    pub(super) fn records_in_use(&self) -> u32 {
        (self.records.len() - self.free_indices.len()) as u32
    }

    /// A record that the maps know nothing of yet. `None`: no index is free.
    pub(super) fn add_record(&mut self, name: &PortName) -> Option<u32> {
        let index = match self.free_indices.pop() {
            Some(index) => index,
            None if (self.records.len() as u32) < self.sizes.services => {
                self.records.push(None);
                self.records.len() as u32 - 1
            }
            None => return None,
        };
        self.put_record(index, Record::new(Some(name.clone())));
        Some(index)
    }

    pub(super) fn put_record(&mut self, index: u32, record: Record) {
        if let Some(name) = &record.name {
            let indices = self.by_service.entry(name.service.clone()).or_default();
            indices.reserve_exact(1);
            indices.push(index);
        }
        self.records[index as usize] = Some(Box::new(record));
    }

    pub(super) fn remove_record(&mut self, index: u32) {
        let Some(record) = self.records.get_mut(index as usize).and_then(Option::take) else { return };
        self.free_indices.push(index);
        self.unlinking.remove(&index);
        self.zeroing.remove(&index);
        let Some(name) = record.name else { return };
        if let Some(indices) = self.by_service.get_mut(&name.service) {
            indices.retain(|other| *other != index);
            if indices.is_empty() {
                self.by_service.remove(&name.service);
            }
        }
    }

    /// After a restart: room for records up to `index`, all free until they are put there.
    pub(super) fn extend_records(&mut self, index: u32) {
        while self.records.len() as u64 <= u64::from(index) {
            self.records.push(None);
        }
    }

    /// After a restart, when all records are in place.
    pub(super) fn collect_free_indices(&mut self) {
        let free = (0u32..).zip(&self.records).filter(|(_, record)| record.is_none()).map(|(index, _)| index);
        self.free_indices = free.collect();
        // The lowest is used first.
        self.free_indices.reverse();
    }

    /// The record's endpoints that have an id, sorted by address.
    pub(super) fn members(&self, index: u32) -> Vec<Member> {
        let ids = self.record(index).map_or(&[][..], |record| &record.members);
        let member = |&id: &u32| Member { address: self.backends.address(id), id };
        let mut members: Vec<Member> = ids.iter().map(member).collect();
        members.sort_unstable();
        members
    }

    /// The operation has succeeded.
    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::StoreBackend { id, state } => self.store_backend(*id, *state),
            // No word points to it yet.
            Op::WriteBlock { .. } => {}
            Op::StoreName { index, name } => self.store_name(*index, name),
            Op::StoreWord { index, word, value } => self.store_word(*index, *word, *value),
            Op::Grace => {
                let ticket = self.ticket;
                self.ticket = ticket.next();
                self.reclaim(ticket);
            }
            Op::InsertFrontend { frontend, kind, index } => self.insert_frontend(*frontend, *kind, *index),
            Op::DeleteFrontend { frontend } => self.delete_frontend(frontend),
            Op::InsertOwned { address } => self.mark(*address),
            Op::DeleteOwned { address } => self.unmark(*address),
            Op::InsertRange { index, range } => self.insert_range(*index, *range),
            Op::DeleteRange { index, range } => self.delete_range(*index, range),
            Op::InsertCidr { cidr } => drop(self.cidrs.insert(*cidr)),
            Op::DeleteCidr { cidr } => drop(self.cidrs.remove(cidr)),
        }
    }

    /// A grace period that was asked for with `ticket` is over. True when that made room.
    pub(super) fn reclaim(&mut self, ticket: Ticket) -> bool {
        let mut freed = self.backends.reclaim(ticket);
        for family in [Family::V4, Family::V6] {
            freed |= self.arenas.of_mut(family).reclaim(ticket);
            let deleted = self.deleted.of_mut(family);
            *deleted = deleted.filter(|deleted| *deleted > ticket);
        }
        while let Some(index) = self.unlinked.exhume(ticket) {
            // It may have been wanted again meanwhile, and left again: then it waits for a later ticket.
            let leaving = self.record(index).and_then(|record| record.leaving);
            if matches!(leaving, Some(Leaving::Unlinked(since)) if since <= ticket) {
                self.zeroing.insert(index);
            }
        }
        freed
    }

    fn store_backend(&mut self, id: u32, state: BackendState) {
        let owner = self.backends.owner(id);
        let served = self.backends.state(id).serving();
        self.backends.stored(id, state, self.ticket);
        if owner == NOBODY || served == state.serving() {
            return;
        }
        let Some(record) = self.record_mut(owner) else { return };
        if state.serving() {
            record.members.push(id);
        } else if let Some(at) = record.members.iter().position(|member| *member == id) {
            record.members.swap_remove(at);
        }
    }

    pub(super) fn insert_range(&mut self, index: u32, range: IpNet) {
        if self.ranges.entry(index).or_default().insert(range) {
            *self.range_entries.of_mut(Family::of(range.addr())) += 1;
        }
    }

    fn delete_range(&mut self, index: u32, range: &IpNet) {
        let Some(ranges) = self.ranges.get_mut(&index) else { return };
        if ranges.remove(range) {
            *self.range_entries.of_mut(Family::of(range.addr())) -= 1;
        }
        if ranges.is_empty() {
            self.ranges.remove(&index);
        }
    }

    fn store_name(&mut self, index: u32, name: &ServiceName) {
        if name.0[0] == 0 {
            self.remove_record(index);
        } else if let Some(record) = self.record_mut(index) {
            record.named = true;
        }
    }

    fn store_word(&mut self, index: u32, word: Word, value: u64) {
        let ticket = self.ticket;
        let Some(record) = self.records.get_mut(index as usize).and_then(Option::as_deref_mut) else { return };
        let (stored, other) = match word {
            Word::Cluster => (&mut record.cluster, &record.local),
            Word::Local => (&mut record.local, &record.cluster),
            Word::Attributes => {
                record.attributes = value;
                return;
            }
        };
        let family = record.name.as_ref().map(|name| name.family);
        let ids = match (SetWord(value).count(), family) {
            (0, _) | (_, None) => Arc::default(),
            _ if other.word == value => Arc::clone(&other.ids),
            (_, Some(family)) => {
                let loan = self.loans.blocks.remove(&(family, SetWord(value).base()));
                loan.map_or_else(Arc::default, |(_, ids)| ids)
            }
        };
        let before = std::mem::replace(stored, Published { word: value, ids });
        let (block, shared) = (before.block(), before.word == other.word || before.word == value);
        if let (Some(block), false, Some(family)) = (block, shared, family) {
            self.arenas.of_mut(family).free(block, ticket);
        }
    }
}
