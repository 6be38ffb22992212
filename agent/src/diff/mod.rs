//! From wanted state to an ordered list of map operations: pure.

mod op;
mod snapshot;

pub use op::{Op, SlotValue, Word};
pub use snapshot::{Sizes, Snapshot, SnapshotSlot};
