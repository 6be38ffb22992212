//! What was unlinked and may still be read: it waits for a grace period that began after it was unlinked.

use std::collections::VecDeque;

/// Stamps what is unlinked. A grace period that was asked for with a ticket covers everything stamped with that ticket
/// or an older one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// The ticket after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Things in the order in which they were unlinked.
#[derive(Debug)]
pub(super) struct Graves<T> {
    waiting: VecDeque<(Ticket, T)>,
}

impl<T> Default for Graves<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

impl<T> Graves<T> {
    pub(super) fn bury(&mut self, ticket: Ticket, thing: T) {
        self.waiting.push_back((ticket, thing));
    }

    /// The next thing that a grace period for `ticket` has freed.
    pub(super) fn exhume(&mut self, ticket: Ticket) -> Option<T> {
        self.waiting.pop_front_if(|(stamped, _)| *stamped <= ticket).map(|(_, thing)| thing)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter().map(|(_, thing)| thing)
    }
}
