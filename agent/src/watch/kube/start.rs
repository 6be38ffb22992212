//! When all kinds have said what there was at the start.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::AcqRel},
};

use crate::watch::{
    Change,
    output::{Closed, Output},
};

/// One kind's part in it.
pub(super) struct Start(Arc<AtomicUsize>);

impl Start {
    pub(super) fn of<const KINDS: usize>() -> [Self; KINDS] {
        let missing = Arc::new(AtomicUsize::new(KINDS));
        std::array::from_fn(|_| Self(Arc::clone(&missing)))
    }

    /// The last one to come says it.
    pub(super) async fn done(self, output: &Output) -> Result<(), Closed> {
        if self.0.fetch_sub(1, AcqRel) == 1 { output.send(Change::Synced).await } else { Ok(()) }
    }
}
