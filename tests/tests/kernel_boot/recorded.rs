//! The tables of docs/kernels.md: a column for each kernel that was asked. Read here, and written by
//! `cargo xtask kernels`, which runs these tests everywhere and collects what they say.

use std::{env, fs};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/kernels.md");

/// Of a failed comparison: where, and what to do.
pub(crate) const HINT: &str = "docs/kernels.md (as it should be? `cargo xtask kernels` records it)";

/// A line of this word is for xtask.
const WORD: &str = "MILLRACE-RECORD";

/// One table, between two comments that name it.
pub(crate) struct Table {
    name: &'static str,
    /// Cells, the heading first.
    rows: Vec<Vec<String>>,
}

/// What the table has for a row in this kernel's column.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record<T> {
    Here(T),
    /// The kernel was never asked; of one of the matrix, that fails.
    NoColumn,
    NoRow,
}

/// True while `cargo xtask kernels` collects: nothing is compared.
pub(crate) fn is_written() -> bool {
    env::var_os("MILLRACE_RECORD").is_some()
}

/// `6.1` of `6.1.0-50-cloud-amd64`; on an architecture that is not most nodes', with its name: `6.12 arm64`.
pub(crate) fn series() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is mounted");
    let series = release.trim().split(['.', '-']).take(2).collect::<Vec<_>>().join(".");
    match env::consts::ARCH {
        "x86_64" => series,
        "aarch64" => series + " arm64",
        other => format!("{series} {other}"),
    }
}

impl Table {
    pub(crate) fn named(name: &'static str) -> Self {
        let text = fs::read_to_string(FILE).unwrap_or_else(|error| panic!("{FILE}: {error}"));
        let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- end of {name} -->"));
        let table = text.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
        let (table, _) = table.unwrap_or_else(|| panic!("{FILE} has no `{begin}` and `{end}`"));
        let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        Self { name, rows: table.lines().filter(|line| line.starts_with('|')).map(cells).collect() }
    }

    /// `row`: its first cells, joined by ` | `.
    pub(crate) fn read(&self, row: &str) -> Record<&str> {
        let column = self.rows.first().and_then(|heading| heading.iter().position(|cell| *cell == series()));
        let Some(column) = column else {
            assert!(env::var_os("MILLRACE_MACHINE").is_none(), "no column for kernel {} in {HINT}", series());
            return Record::NoColumn;
        };
        let width = row.split(" | ").count();
        let found = self.rows.iter().find(|cells| cells.len() > column && cells[..width].join(" | ") == row);
        found.map_or(Record::NoRow, |cells| Record::Here(cells[column].as_str()))
    }

    pub(crate) fn write(&self, row: &str, cell: &str) {
        println!("{WORD} {} | {} | {row} | {cell}", self.name, series());
    }
}
