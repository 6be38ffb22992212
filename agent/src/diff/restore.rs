//! From what start-up finds in the maps to a planner that knows it: what is there as wanted already takes no
//! operation.
//!
//! An agent may have ended between any two operations of a plan, so some remains are expected: records whose
//! frontends are missing or gone, backends that serve in no set. Records without a usable name and words that lead to
//! slots of another owner are not; they are cleared all the same, and the chores say how.

use std::{collections::BTreeMap, sync::Arc};

use millrace_common::{
    backend::BackendState,
    service::{ServiceRecord, SetWord},
};

use super::{
    Op, Planner, Sizes, SlotValue, Snapshot, SnapshotSlot, Word,
    backends::NOBODY,
    port::table_of,
    record::{Published, Record},
};
use crate::lb::{Family, Frontend, PortName};

impl Planner {
    /// A planner over maps that hold `snapshot` and have room for `sizes`. Its first [`Planner::chores`] clear what
    /// makes no sense; carry them out before the first plan.
    #[must_use]
    pub fn restore(snapshot: &Snapshot, sizes: Sizes) -> Self {
        let mut planner = Self::new(sizes);
        planner.restore_records(snapshot);
        planner.restore_frontends(snapshot);
        planner.mirror.cidrs.clone_from(&snapshot.cidrs);
        for (&index, ranges) in &snapshot.ranges {
            ranges.iter().for_each(|range| planner.mirror.insert_range(index, *range));
        }
        for (&index, ranges) in snapshot.ranges.iter().filter(|(index, _)| !snapshot.names.contains_key(index)) {
            // The next record with this index would be guarded by them.
            planner.repairs.extend(ranges.iter().map(|&range| Op::DeleteRange { index, range }));
        }
        for id in planner.mirror.backends.free_the_rest() {
            let state = BackendState::new(planner.mirror.backends.state(id).epoch(), false);
            planner.repairs.push(Op::StoreBackend { id, state });
        }
        planner
    }

    fn restore_records(&mut self, snapshot: &Snapshot) {
        let mut owners: BTreeMap<PortName, u32> = BTreeMap::new();
        for (&id, &state) in snapshot.backends.range(..self.mirror.sizes.backends) {
            self.mirror.backends.restore(id, state);
        }
        for (&index, text) in snapshot.names.range(..self.mirror.sizes.services) {
            self.mirror.extend_records(index);
            let name = text.parse::<PortName>().ok().filter(|name| !owners.contains_key(name));
            owners.extend(name.clone().map(|name| (name, index)));
            let words = snapshot.records.get(&index).copied().unwrap_or_default();
            let mut record = Record::new(name);
            record.named = true;
            record.attributes = words.attributes;
            self.mirror.put_record(index, record);
            self.restore_sets(snapshot, index, &words);
            if self.mirror.record(index).is_some_and(|record| record.name.is_none()) {
                self.mirror.leave(index);
            }
        }
        self.mirror.collect_free_indices();
    }

    fn restore_sets(&mut self, snapshot: &Snapshot, index: u32, words: &ServiceRecord) {
        let family = self.mirror.record(index).and_then(|record| record.name.as_ref()).map(|name| name.family);
        let mut held: Vec<(u64, Published)> = Vec::new();
        for (word, value) in [(Word::Cluster, words.cluster), (Word::Local, words.local)] {
            let shared = held.iter().find(|(other, _)| *other == value).map(|(_, published)| published.clone());
            let published = shared.or_else(|| self.restore_set(snapshot, index, family, SetWord(value)));
            if published.is_none() {
                // Until the record is planned anew nothing must follow the word: its slots are free to be reused.
                self.repairs.push(Op::StoreWord { index, word, value: SetWord::REJECT.0 });
            }
            held.push((value, published.unwrap_or(Published { word: value, ids: Arc::default() })));
        }
        let Some(record) = self.mirror.record_mut(index) else { return };
        for (word, (value, published)) in [Word::Cluster, Word::Local].into_iter().zip(held) {
            let (generation, has_block) = (SetWord(value).generation(), !published.ids.is_empty());
            match word {
                Word::Cluster => record.cluster = published,
                _ => record.local = published,
            }
            record.generation = if has_block { record.generation.max(generation) } else { record.generation };
        }
    }

    /// `None`: the word does not lead to slots that were written for this record.
    fn restore_set(
        &mut self,
        snapshot: &Snapshot,
        index: u32,
        family: Option<Family>,
        word: SetWord,
    ) -> Option<Published> {
        if word.count() == 0 {
            return Some(Published { word: word.0, ids: Arc::default() });
        }
        let family = family?;
        let end = word.base().checked_add(word.count())?;
        let slots: Vec<_> = snapshot.slots.range((family, word.base())..(family, end)).map(|(_, slot)| *slot).collect();
        let whole = slots.len() == word.count() as usize && slots.is_sorted_by(|one, two| one.backend < two.backend);
        let ours = slots.iter().all(|slot| {
            let owned = self.mirror.backends.owner(slot.backend);
            slot.owner == index
                && slot.generation == word.generation()
                && Family::of(slot.address.ip()) == family
                && slot.backend < self.mirror.sizes.backends
                && (owned == NOBODY || owned == index && self.mirror.backends.address(slot.backend) == slot.address)
        });
        if !(whole && ours && has_its_table(snapshot, family, word, &slots)) {
            return None;
        }
        self.mirror.arenas.of_mut(family).reserve(word.base(), word.slots())?;
        for slot in &slots {
            let known = self.mirror.backends.owner(slot.backend) == index;
            if known || !self.mirror.backends.adopt(slot.backend, index, slot.address) {
                continue;
            }
            let state = self.mirror.backends.state(slot.backend);
            if !state.serving() {
                // In a set, so it serves; the next plan may say otherwise.
                let state = BackendState::new(state.epoch().max(1), true);
                self.mirror.backends.restore(slot.backend, state);
                self.repairs.push(Op::StoreBackend { id: slot.backend, state });
            }
            if let Some(record) = self.mirror.record_mut(index) {
                record.members.push(slot.backend);
            }
        }
        Some(Published { word: word.0, ids: slots.iter().map(|slot| slot.backend).collect() })
    }

    fn restore_frontends(&mut self, snapshot: &Snapshot) {
        for (&frontend, &(kind, index)) in &snapshot.frontends {
            self.mirror.insert_frontend(frontend, kind, index);
            if !self.leads_somewhere(&frontend, index) {
                self.mirror.stale.insert(frontend);
            }
        }
        for &address in &snapshot.owned {
            self.mirror.mark(address);
        }
    }

    /// False where nothing but a repair would ever delete it: a record that is leaving takes its frontends along.
    fn leads_somewhere(&self, frontend: &Frontend, index: u32) -> bool {
        self.mirror
            .record(index)
            .is_some_and(|record| record.name.as_ref().is_none_or(|name| name.family == frontend.family()))
    }
}

/// A set without a table needs none; a table that does not follow from the set is not one of ours.
fn has_its_table(snapshot: &Snapshot, family: Family, word: SetWord, slots: &[SnapshotSlot]) -> bool {
    let values = slots.iter().map(|slot| SlotValue { address: slot.address, backend: slot.backend });
    !word.has_table()
        || snapshot
            .tables
            .get(&(family, word.base()))
            .is_some_and(|table| *table == table_of(&values.collect::<Vec<_>>()))
}
