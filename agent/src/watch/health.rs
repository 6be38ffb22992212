//! How the watching itself goes, in numbers. What the sources say about objects goes through the channel.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since the start of the agent; each only grows.
#[derive(Debug, Default)]
pub struct Health {
    /// Objects and files that made no sense.
    pub rejected: Counter,
    /// Watches that fell behind what the server keeps, so that a whole kind had to be listed again.
    pub relists: Counter,
    /// Requests to the API server that failed, and watches that broke.
    pub errors: Counter,
    /// Documents of kinds that a service proxy does not read.
    pub other_kinds: Counter,
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
