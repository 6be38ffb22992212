//! Where a source puts what it has to say.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Change, Health};

#[derive(Clone, Debug)]
pub struct Output {
    changes: mpsc::Sender<Change>,
    health: Arc<Health>,
}

/// Nobody listens any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed;

impl Output {
    #[must_use]
    pub fn new(changes: mpsc::Sender<Change>, health: Arc<Health>) -> Self {
        Self { changes, health }
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Waits while the receiver is busy.
    pub(super) async fn send(&self, change: Change) -> Result<(), Closed> {
        if let Change::Rejected(rejection) = &change {
            let counter = if rejection.doubt.is_some() { &self.health.rejected } else { &self.health.left_out };
            counter.increment();
        }
        self.changes.send(change).await.map_err(|_| Closed)
    }
}
