//! What millrace promises, held against a run. Pure.
//!
//! `own` is what it promises of itself, `against` what it promises beside its rivals.

mod against;
mod own;

use super::Report;
use crate::cluster::Clients;

/// The size that the promises about programming name.
const LARGE: u32 = 10_000;

/// One promise, in words, and what the run says to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    pub promise: String,
    pub found: String,
    /// `None`: this run cannot say.
    pub met: Option<bool>,
}

#[must_use]
pub fn bars(report: &Report) -> Vec<Bar> {
    match report.clients {
        Clients::Pods => own::bars(report).into_iter().chain(against::bars(report)).collect(),
        // What programming takes is the same as for pods.
        Clients::Outside | Clients::Through => vec![against::better_than_rivals(report)],
    }
}

fn not_measured() -> String {
    "**not measured in this run**".to_owned()
}
