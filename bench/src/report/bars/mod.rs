//! What millrace promises, held against a run. Pure.
//!
//! `own` is what it promises of itself, `against` what it promises beside its rivals, `gaps` what a run did not measure of
//! what a promise is about.

mod against;
mod gaps;
mod own;

pub(super) use self::gaps::{listed, missing_sizes};
use super::Report;
use crate::cluster::Clients;

/// The size that the promises about programming name.
const LARGE: u32 = 10_000;

/// One promise, in words, and what the run says to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    pub promise: String,
    pub found: String,
    /// What it is about and the run did not measure, each in words.
    pub gaps: Vec<String>,
    /// Of what was measured. `None`: this run cannot say.
    pub met: Option<bool>,
}

impl Bar {
    /// What was found, and what was not looked for.
    #[must_use]
    pub fn finding(&self) -> String {
        match (self.met, &self.gaps[..]) {
            (None, _) | (_, []) => self.found.clone(),
            (Some(_), gaps) => format!("{}; not measured here: {}", self.found, gaps.join("; ")),
        }
    }

    /// No more than the figures bear out.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match (self.met, &self.gaps[..]) {
            (Some(true), []) => "met",
            (Some(true), _) => "met where measured",
            (Some(false), _) => "**not met**",
            (None, _) => "open",
        }
    }
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
