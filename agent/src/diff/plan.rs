//! An ordered list of operations, and the services that they are for.

use super::{Op, Refusal};
use crate::model::ServiceKey;

/// One operation of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Steps of one group build on each other: when one fails, the group's later steps must not be carried out.
    /// [`Step::EVERYBODY`]: all later steps build on it.
    pub group: u32,
    pub op: Op,
}

impl Step {
    /// The group of a grace period.
    pub const EVERYBODY: u32 = u32::MAX;
}

/// What to do, in this order. After each operation that succeeded the planner wants to be told
/// ([`super::Planner::record`]), and at the end of the plan, whatever became of it ([`super::Planner::settle`]).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// By group: the service that is to be planned anew when the group fails; `None` for housekeeping, which the
    /// planner repeats by itself.
    pub groups: Vec<Option<ServiceKey>>,
    /// Ports that the maps have no room for.
    pub refused: Vec<Refusal>,
}

impl Plan {
    /// The operations alone.
    pub fn ops(&self) -> impl Iterator<Item = &Op> {
        self.steps.iter().map(|step| &step.op)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
