//! Plans that end, records that go, and what waits for a grace period.

use super::{Mirror, PerFamily};
use crate::diff::{
    backends::NOBODY,
    record::{Leaving, Record},
};

impl Mirror {
    /// A plan has ended. What it took and no program has seen goes back.
    pub(in crate::diff) fn return_loans(&mut self) {
        for ((family, _), (block, _)) in std::mem::take(&mut self.loans.blocks) {
            self.arenas.of_mut(family).put_back(block);
        }
        for id in std::mem::take(&mut self.loans.ids) {
            if !self.backends.state(id).serving() && self.backends.owner(id) != NOBODY {
                self.backends.put_back(id);
            }
        }
        self.loans.ranges = PerFamily::default();
        for index in std::mem::take(&mut self.loans.records) {
            if self.record(index).is_some_and(Record::is_unknown_to_maps) {
                self.remove_record(index);
            }
        }
        let unlinked: Vec<u32> = (self.unlinking.iter().copied())
            .filter(|index| self.record(*index).is_none_or(|record| !record.is_linked()))
            .collect();
        for index in unlinked {
            let ticket = self.ticket;
            self.unlinking.remove(&index);
            if let Some(record) = self.record_mut(index) {
                record.leaving = Some(Leaving::Unlinked(ticket));
                self.unlinked.bury(ticket, index);
            }
        }
    }

    /// The record is wanted no more.
    pub(in crate::diff) fn leave(&mut self, index: u32) {
        let Some(record) = self.record_mut(index) else { return };
        if record.leaving.is_none() {
            record.leaving = Some(Leaving::Unlinking);
            self.unlinking.insert(index);
        }
    }

    /// The record is wanted after all.
    pub(in crate::diff) fn stay(&mut self, index: u32) {
        let Some(record) = self.record_mut(index) else { return };
        record.leaving = None;
        self.unlinking.remove(&index);
        self.zeroing.remove(&index);
    }

    /// Something waits for a grace period.
    pub(in crate::diff) fn waits_for_grace(&self) -> bool {
        self.has_graves() || self.deleted.both().iter().any(|deleted| deleted.is_some())
    }

    /// Records, ids or slots will be free when grace periods have passed and chores are done.
    pub(in crate::diff) fn makes_room_later(&self) -> bool {
        self.has_graves() || !self.unlinking.is_empty() || !self.zeroing.is_empty()
    }

    fn has_graves(&self) -> bool {
        let arenas = self.arenas.both().iter().any(|arena| arena.has_waiting());
        arenas || self.backends.has_waiting() || !self.unlinked.is_empty()
    }
}
