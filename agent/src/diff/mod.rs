//! From wanted state to an ordered list of map operations: pure.
//!
//! [`Planner`] keeps a mirror of what the maps hold, compares it with what is wanted and says what to write, in which
//! order. The caller carries the operations out and reports those that succeeded; whatever fails is planned anew from
//! the mirror, which is how a plan converges.

mod arena;
mod backends;
mod batch;
mod cidrs;
mod dump;
mod grace;
mod guard;
mod mirror;
mod op;
mod per_packet;
mod plan;
mod planner;
mod port;
mod record;
mod refusal;
mod restore;
mod snapshot;

pub use arena::{Arena, Block, Occupancy};
pub use cidrs::CidrPlan;
pub use dump::dump;
pub use grace::Ticket;
pub use op::{Op, SlotValue, Word};
pub use per_packet::{ChosenPods, PacketPlan, PodCgroup, PodCgroups, plan_per_packet};
pub use plan::{Plan, Step};
pub use planner::Planner;
pub use refusal::{NoRoom, Refusal};
pub use snapshot::{Sizes, Snapshot, SnapshotSlot, Usage};
