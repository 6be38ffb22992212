//! When all kinds that belong together have said what there was at the start.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::AcqRel},
};

use crate::watch::{
    Change,
    output::{Closed, Output},
};

/// One kind's part in it.
pub(super) struct Start {
    missing: Arc<AtomicUsize>,
    says: Change,
}

impl Start {
    pub(super) fn of<const KINDS: usize>(says: &Change) -> [Self; KINDS] {
        let missing = Arc::new(AtomicUsize::new(KINDS));
        std::array::from_fn(|_| Self { missing: Arc::clone(&missing), says: says.clone() })
    }

    /// The last one to come says it.
    pub(super) async fn done(self, output: &Output) -> Result<(), Closed> {
        if self.missing.fetch_sub(1, AcqRel) == 1 { output.send(self.says).await } else { Ok(()) }
    }
}
