//! How the watching itself goes. What the sources say about objects goes through the channel.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Counts since the start of the agent, each of which only grows; and what a start waits for.
#[derive(Debug, Default)]
pub struct Health {
    /// Objects and files that made no sense.
    pub rejected: Counter,
    /// Parts that made no sense, of objects that are in force without them.
    pub left_out: Counter,
    /// Watches that fell behind what the server keeps, so that a whole kind had to be listed again.
    pub relists: Counter,
    /// Requests to the API server that failed, and watches that broke.
    pub errors: Counter,
    /// Documents of kinds that a service proxy does not read.
    pub other_kinds: Counter,
    /// Kinds of which the first complete list has not come.
    unlisted: Mutex<BTreeSet<&'static str>>,
}

impl Health {
    /// The kinds that [`Change::Synced`](super::Change::Synced) still waits for; none where the source has no lists.
    #[must_use]
    pub fn unlisted(&self) -> Vec<&'static str> {
        self.kinds().iter().copied().collect()
    }

    pub(super) fn await_lists(&self, kinds: impl IntoIterator<Item = &'static str>) {
        self.kinds().extend(kinds);
    }

    pub(super) fn listed(&self, kind: &str) {
        self.kinds().remove(kind);
    }

    fn kinds(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.unlisted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(super) fn increment(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
