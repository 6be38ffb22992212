//! The loop that writes what a plan says.

use std::collections::BTreeSet;

use super::{TableError, Tables};
use crate::{
    diff::{Plan, Planner, Step},
    model::ServiceKey,
};

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Operations that succeeded.
    pub done: usize,
    /// Services whose part of the plan is not complete: decide and plan them anew.
    pub dirty: BTreeSet<ServiceKey>,
    pub errors: Vec<TableError>,
}

/// Carries out `plan`, step by step. A step that fails ends its group; the others go on.
pub fn carry_out(plan: &Plan, planner: &mut Planner, tables: &mut impl Tables) -> Outcome {
    let mut outcome = Outcome::default();
    let mut failed = vec![false; plan.groups.len()];
    let mut everybody_failed = false;
    for Step { group, op } in &plan.steps {
        let group = *group as usize;
        if everybody_failed || failed.get(group) == Some(&true) {
            failed.get_mut(group).into_iter().for_each(|failed| *failed = true);
            continue;
        }
        match tables.execute(op) {
            Ok(()) => {
                planner.record(op);
                outcome.done += 1;
            }
            Err(error) => {
                outcome.errors.push(error);
                match failed.get_mut(group) {
                    Some(failed) => *failed = true,
                    None => everybody_failed = true,
                }
            }
        }
    }
    planner.settle();
    let services = plan.groups.iter().zip(failed).filter(|(_, failed)| *failed);
    outcome.dirty = services.filter_map(|(service, _)| service.clone()).collect();
    outcome
}
