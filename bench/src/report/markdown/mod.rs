//! The report as a Markdown page. `tables` are its figures (`table` is one of them), `churn` who was
//! misled, `words` what stands around them.

mod churn;
mod table;
mod tables;
mod words;

use super::Report;

pub use table::thousands;
pub use tables::tables;
pub use words::held_against;

/// The whole page.
#[must_use]
pub fn page(report: &Report) -> String {
    [
        words::opening(report),
        words::promises(report),
        words::plots(report),
        words::reproduce(report),
        words::participants(report),
        tables(report),
        words::limits(report),
    ]
    .join("\n")
}
