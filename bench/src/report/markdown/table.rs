//! One table: a line for each contestant, a column for each size.

use std::fmt::Write;

use comfy_table::{Table, presets::ASCII_MARKDOWN};

use crate::{
    contestants::Kind,
    report::{Figures, Report, Size},
    stats::Spread,
};

/// Its first cells, then one for each size.
pub(super) struct Line {
    pub(super) name: [String; 2],
    pub(super) cells: Vec<String>,
}

pub(super) fn section(text: &mut String, report: &Report, heading: &str, words: &str, lines: Vec<Line>) {
    let mut table = Table::new();
    let sizes = report.sizes.iter().map(|size| thousands(size.services));
    table.load_style(ASCII_MARKDOWN).set_header(["".to_owned(), "services".to_owned()].into_iter().chain(sizes));
    for line in lines {
        table.add_row(line.name.into_iter().chain(line.cells));
    }
    // Writing into a String does not fail.
    let _ = writeln!(text, "### {heading}\n\n{words}\n\n{table}\n");
}

pub(super) fn line(report: &Report, kind: Kind, what: &str, cell: impl Fn(&Figures) -> Option<String>) -> Line {
    let cells = report.sizes.iter().map(|size| show(size, kind, &cell)).collect();
    Line { name: [kind.name().to_owned(), what.to_owned()], cells }
}

fn show(size: &Size, kind: Kind, cell: impl Fn(&Figures) -> Option<String>) -> String {
    match size.of(kind) {
        Some(Figures { skipped: Some(why), .. }) => why.clone(),
        Some(figures) => cell(figures).unwrap_or_else(|| "-".to_owned()),
        None => "-".to_owned(),
    }
}

pub(super) fn ratio(spread: Spread) -> String {
    format!("{:.2} ({:.2}-{:.2})", spread.median, spread.min, spread.max)
}

/// Three digits that count, whatever the size.
pub(super) fn decimals(spread: Spread) -> String {
    let digits = |value: f64| match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value if value >= 0.1 => format!("{value:.3}"),
        value => format!("{value:.4}"),
    };
    match spread {
        Spread { median, min, max } if min == max => digits(median),
        Spread { median, min, max } => format!("{} ({}-{})", digits(median), digits(min), digits(max)),
    }
}

/// `10,000`
#[must_use]
pub fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let grouped: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    grouped.join(",")
}
