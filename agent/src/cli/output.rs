//! Rows as a table for people or as JSON for programs.

use std::io::{self, Write};

use anyhow::Result;
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    #[default]
    Table,
    Json,
}

/// One line of a table.
pub(super) trait Row: Serialize {
    const HEADER: &'static [&'static str];

    fn cells(&self) -> Vec<String>;
}

/// Prints rows in their order; `none` is said instead of an empty table.
pub(super) fn print<R: Row>(format: Format, rows: &[R], none: &str) -> Result<()> {
    match format {
        Format::Json => line(&serde_json::to_string_pretty(rows)?),
        Format::Table if rows.is_empty() => line(none),
        Format::Table => {
            let mut table = Table::new();
            table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
            table.set_header(R::HEADER);
            for row in rows {
                table.add_row(row.cells());
            }
            line(&table.trim_fmt())
        }
    }
}

/// A reader such as `head` may leave early: no reason to complain.
pub(super) fn line(text: &str) -> Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
