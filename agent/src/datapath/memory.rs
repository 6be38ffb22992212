//! The maps in memory: for tests and measurements. As strict as the kernel's: a frontend is never replaced, nothing
//! lies beyond a map's end, and a full map refuses.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use ipnet::IpNet;
use millrace_common::{
    backend::BackendState,
    frontend::FrontendKind,
    maglev, maps,
    service::{ServiceName, ServiceRecord, SetWord},
};

use super::{TableError, Tables};
use crate::{
    diff::{Op, Sizes, Snapshot, SnapshotSlot, Word},
    lb::{Family, Frontend},
};

/// What lies in SLOTS.
#[derive(Clone, Debug)]
enum Element {
    Slot(SnapshotSlot),
    Page(Box<[u16]>),
}

/// Decides whether an operation fails.
pub type Fault = Box<dyn FnMut(&Op) -> bool + Send>;

/// The same contents as the kernel's maps, with the same sizes.
pub struct MemoryTables {
    sizes: Sizes,
    frontends: BTreeMap<Frontend, (FrontendKind, u32)>,
    owned: BTreeSet<IpAddr>,
    records: Vec<ServiceRecord>,
    names: Vec<Option<Box<ServiceName>>>,
    slots: [Vec<Option<Element>>; 2],
    backends: Vec<BackendState>,
    cidrs: BTreeSet<IpNet>,
    ranges: BTreeMap<u32, BTreeSet<IpNet>>,
    fault: Option<Fault>,
}

impl MemoryTables {
    #[must_use]
    pub fn new(sizes: Sizes) -> Self {
        let slots = || vec![None; sizes.slots as usize];
        Self {
            sizes,
            frontends: BTreeMap::new(),
            owned: BTreeSet::new(),
            records: vec![ServiceRecord::default(); sizes.services as usize],
            names: vec![None; sizes.services as usize],
            slots: [slots(), slots()],
            backends: vec![BackendState::default(); sizes.backends as usize],
            cidrs: BTreeSet::new(),
            ranges: BTreeMap::new(),
            fault: None,
        }
    }

    /// From now on, operations for which `fault` says true fail and change nothing; `None`: all succeed again.
    pub fn fail_when(&mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    /// What a program finds under a key: the frontend's kind and its record.
    #[must_use]
    pub fn frontend(&self, frontend: &Frontend) -> Option<(FrontendKind, u32)> {
        self.frontends.get(frontend).copied()
    }

    /// All frontends, sorted.
    pub fn frontends(&self) -> impl Iterator<Item = (&Frontend, &(FrontendKind, u32))> {
        self.frontends.iter()
    }

    #[must_use]
    pub fn service(&self, index: u32) -> ServiceRecord {
        self.records[index as usize]
    }

    /// `None`: never written, or part of a table.
    #[must_use]
    pub fn slot(&self, family: Family, index: u32) -> Option<SnapshotSlot> {
        match self.slots[family as usize][index as usize] {
            Some(Element::Slot(slot)) => Some(slot),
            _ => None,
        }
    }

    /// What a set's table has in a place: an offset into the set's block. `None`: there is no table.
    #[must_use]
    pub fn place(&self, family: Family, word: SetWord, place: u32) -> Option<u16> {
        let index = word.base() + word.count() + place / maglev::PER_SLOT;
        match &self.slots[family as usize][index as usize] {
            Some(Element::Page(entries)) => entries.get((place % maglev::PER_SLOT) as usize).copied(),
            _ => None,
        }
    }

    fn table(&self, family: Family, word: SetWord) -> Vec<u16> {
        let behind = word.base().saturating_add(word.count());
        let pages = self.slots[family as usize].iter().skip(behind as usize).take(maglev::slots(word.count()) as usize);
        let entries = pages.filter_map(|element| match element {
            Some(Element::Page(entries)) => Some(&entries[..]),
            _ => None,
        });
        entries.flatten().copied().collect()
    }

    #[must_use]
    pub fn backend(&self, id: u32) -> BackendState {
        self.backends[id as usize]
    }

    /// What start-up would read.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            frontends: self.frontends.iter().map(|(frontend, value)| (*frontend, *value)).collect(),
            owned: self.owned.clone(),
            cidrs: self.cidrs.clone(),
            ranges: self.ranges.clone(),
            ..Snapshot::default()
        };
        let backends = (0u32..).zip(&self.backends).filter(|(_, state)| state.0 != 0);
        snapshot.backends = backends.map(|(id, state)| (id, *state)).collect();
        for (index, name) in (0u32..).zip(&self.names) {
            let Some(name) = name else { continue };
            let end = name.0.iter().position(|byte| *byte == 0).unwrap_or(name.0.len());
            let name = String::from_utf8_lossy(&name.0[..end]).into_owned();
            let record = self.records[index as usize];
            let family = if name.ends_with("/v6") { Family::V6 } else { Family::V4 };
            for word in [SetWord(record.cluster), SetWord(record.local)] {
                for at in (word.base()..self.sizes.slots).take(word.count() as usize) {
                    snapshot.slots.extend(self.slot(family, at).map(|slot| ((family, at), slot)));
                }
                if word.has_table() {
                    snapshot.tables.insert((family, word.base()), self.table(family, word));
                }
            }
            snapshot.names.insert(index, name);
            snapshot.records.insert(index, record);
        }
        snapshot
    }

    fn apply(&mut self, op: &Op) -> io::Result<()> {
        match op {
            Op::StoreBackend { id, state } => *at(&mut self.backends, *id)? = *state,
            Op::WriteBlock { family, base, generation, owner, slots, table } => {
                let map = &mut self.slots[*family as usize];
                for (index, slot) in (*base..).zip(slots) {
                    let (address, backend) = (slot.address, slot.backend);
                    let slot = SnapshotSlot { address, backend, generation: *generation, owner: *owner };
                    *at(map, index)? = Some(Element::Slot(slot));
                }
                let behind = *base + slots.len() as u32;
                for (index, page) in (behind..).zip(table.chunks(maglev::PER_SLOT as usize)) {
                    *at(map, index)? = Some(Element::Page(page.into()));
                }
            }
            Op::StoreName { index, name } => {
                *at(&mut self.names, *index)? = (name.0[0] != 0).then(|| name.clone());
            }
            Op::StoreWord { index, word, value } => {
                let record = at(&mut self.records, *index)?;
                match word {
                    Word::Cluster => record.cluster = *value,
                    Word::Local => record.local = *value,
                    Word::Attributes => record.attributes = *value,
                }
            }
            Op::Grace => {}
            Op::InsertFrontend { frontend, kind, index } => {
                self.room(frontend.family())?;
                if self.frontends.contains_key(frontend) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                self.frontends.insert(*frontend, (*kind, *index));
            }
            Op::DeleteFrontend { frontend } => {
                self.frontends.remove(frontend).ok_or(io::ErrorKind::NotFound)?;
            }
            Op::InsertOwned { address } => {
                self.room(Family::of(*address))?;
                if !self.owned.insert(*address) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
            }
            Op::DeleteOwned { address } => {
                if !self.owned.remove(address) {
                    return Err(io::ErrorKind::NotFound.into());
                }
            }
            Op::InsertRange { index, range } => {
                self.room_for_range(*range)?;
                self.ranges.entry(*index).or_default().insert(*range);
            }
            Op::DeleteRange { index, range } => {
                let ranges = self.ranges.get_mut(index).ok_or(io::ErrorKind::NotFound)?;
                if !ranges.remove(range) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                if ranges.is_empty() {
                    self.ranges.remove(index);
                }
            }
            Op::InsertCidr { cidr } => {
                has_room(self.cidrs.iter().filter(|known| same_family(known, cidr)).count(), maps::SERVICE_CIDRS)?;
                self.cidrs.insert(*cidr);
            }
            Op::DeleteCidr { cidr } => drop(self.cidrs.remove(cidr)),
        }
        Ok(())
    }

    fn room_for_range(&self, range: IpNet) -> io::Result<()> {
        let count: usize = self.ranges.values().map(BTreeSet::len).sum();
        if count < self.sizes.source_ranges as usize {
            return Ok(());
        }
        let of_family = self.ranges.values().flatten().filter(|known| same_family(known, &range));
        has_room(of_family.count(), self.sizes.source_ranges)
    }

    fn room(&self, family: Family) -> io::Result<()> {
        // Counting is only worth it where the map could be full at all.
        if self.frontends.len() + self.owned.len() < self.sizes.frontends as usize {
            return Ok(());
        }
        let frontends = self.frontends.keys().filter(|frontend| frontend.family() == family).count();
        let owned = self.owned.iter().filter(|address| Family::of(**address) == family).count();
        if frontends + owned < self.sizes.frontends as usize { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

impl Tables for MemoryTables {
    fn execute(&mut self, op: &Op) -> Result<(), TableError> {
        let refused = self.fault.as_mut().is_some_and(|fault| fault(op));
        let result = if refused { Err(io::Error::other("a fault that was asked for")) } else { self.apply(op) };
        result.map_err(|source| TableError { map: "in memory", operation: format!("{op:?}"), source })
    }
}

fn same_family(one: &IpNet, another: &IpNet) -> bool {
    one.addr().is_ipv4() == another.addr().is_ipv4()
}

fn has_room(used: usize, capacity: u32) -> io::Result<()> {
    if used < capacity as usize { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
}

fn at<T>(map: &mut [T], index: u32) -> io::Result<&mut T> {
    map.get_mut(index as usize).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
