//! Values that many objects repeat, kept once.

use std::{hash::Hash, sync::Arc};

use foldhash::HashSet;

/// Every distinct value in use, and for a while those that no longer are.
#[derive(Debug)]
pub(super) struct Shared<T: ?Sized> {
    values: HashSet<Arc<T>>,
    /// Number of values at which the unused ones are swept out.
    sweep_at: usize,
}

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self { values: HashSet::default(), sweep_at: 64 }
    }
}

impl<T: ?Sized + Eq + Hash> Shared<T> {
    /// Replaces `value` by the equal one that is in use already.
    pub(super) fn share(&mut self, value: &mut Arc<T>) {
        if let Some(shared) = self.values.get(value) {
            *value = Arc::clone(shared);
            return;
        }
        if self.values.len() >= self.sweep_at {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            // Doubled, so that the sweeps cost nothing, shared out over the values.
            self.sweep_at = (self.values.len() * 2).max(64);
        }
        self.values.insert(Arc::clone(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_become_one_and_unused_ones_do_not_pile_up() {
        let mut shared: Shared<str> = Shared::default();
        let mut kept: Arc<str> = "kept".into();
        shared.share(&mut kept);
        for at in 0..10_000 {
            shared.share(&mut format!("node-{at}").into());
        }
        let mut again: Arc<str> = "kept".into();
        shared.share(&mut again);
        assert!(Arc::ptr_eq(&kept, &again));
        assert!(shared.values.len() <= 65, "{} names of nodes that are gone", shared.values.len());
    }
}
