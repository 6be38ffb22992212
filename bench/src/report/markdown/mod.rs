//! The report as a Markdown page. `tables` are its figures (`table` is one of them), `flood` those of packets, `churn` who was
//! misled, `participants` who was compared, `limits` what the figures cannot show, `words` what else stands around them.

mod churn;
mod flood;
mod limits;
mod participants;
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
        participants::participants(report),
        tables(report),
        limits::limits(report),
    ]
    .join("\n")
}
