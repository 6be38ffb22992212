//! The report as a Markdown page. `tables` are its figures, `words` what stands around them.

mod tables;
mod words;

use super::Report;

pub use tables::tables;

/// The whole page.
#[must_use]
pub fn page(report: &Report) -> String {
    [
        words::opening(report),
        words::reproduce(report),
        words::participants(report),
        tables(report),
        words::limits(report),
    ]
    .join("\n")
}
