//! `cargo xtask kernels`: what is each kernel like? Runs the tests that compare kernels with docs/kernels.md in a mode in
//! which they say what they find instead, here and in the machines of the matrix, and writes the tables.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, bail};

use crate::{
    command::{capture, cargo},
    document,
    kernel::{self, RECORD, Task, after},
    privileges, setup,
    test::TESTED,
    workspace,
};

/// The tables, and the heading of the cells before the kernels'.
const TABLES: [(&str, &str); 3] =
    [("features", "feature | since | without it"), ("programs", "program"), ("states", "program")];

/// One cell, as a test said it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    table: String,
    kernel: String,
    row: String,
    text: String,
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only this machine of the matrix (6.1, 6.12 or arm64): the other columns stay as they are
    kernel: Option<kernel::Choice>,
}

pub(crate) fn record(arguments: &Arguments) -> Result<()> {
    privileges::require("the tests")?;
    let machines = arguments.kernel.unwrap_or(kernel::Choice::All).machines();
    setup::everything()?;
    setup::machines(&machines)?;
    let mut said = if arguments.kernel.is_none() { ask_here()? } else { Vec::new() };
    said.extend(kernel::test(&machines, Task::Record)?);
    let cells = said.iter().map(|line| parse(line)).collect::<Result<Vec<_>>>()?;
    let path = workspace::root().join("docs/kernels.md");
    let mut text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for (name, heading) in TABLES {
        let read = || document::table(&text, name).with_context(|| format!("in {}", path.display()));
        let before = if arguments.kernel.is_some() { recorded(name, heading, read()?) } else { Vec::new() };
        let asked: Vec<_> = cells.iter().filter(|cell| cell.table == name).cloned().collect();
        let table = rendered(heading, &replaced(before, asked));
        text = document::with_table(&text, name, &table).with_context(|| format!("in {}", path.display()))?;
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written: {}", path.display());
    Ok(())
}

fn ask_here() -> Result<Vec<String>> {
    let mut command = cargo("test");
    command.args(TESTED).args(["--test", "kernel_boot", "--", "recorded_", "--nocapture"]).env("MILLRACE_RECORD", "1");
    let here = capture(&mut command)?;
    Ok(here.lines().filter_map(|line| after(line, RECORD)).map(str::to_owned).collect())
}

/// The cells of a table as it stands.
fn recorded(name: &str, heading: &str, table: &str) -> Vec<Cell> {
    let width = heading.split('|').count();
    let mut lines = table.lines().map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let kernels = lines.next().unwrap_or_default();
    let rows = lines.skip(1).filter(|row| row.len() == kernels.len());
    let cells = rows.flat_map(|row| {
        let first = row[..width].join(" | ");
        let rest = kernels.iter().zip(row).skip(width).filter(|(_, text)| !text.is_empty());
        let cell = |(kernel, text): (&&str, &str)| Cell {
            table: name.to_owned(),
            kernel: (*kernel).to_owned(),
            row: first.clone(),
            text: text.to_owned(),
        };
        rest.map(cell).collect::<Vec<_>>()
    });
    cells.collect()
}

/// `before` with the whole columns of the kernels in `asked` as they are now.
fn replaced(before: Vec<Cell>, asked: Vec<Cell>) -> Vec<Cell> {
    let kernels: BTreeSet<_> = asked.iter().map(|cell| cell.kernel.clone()).collect();
    before.into_iter().filter(|cell| !kernels.contains(&cell.kernel)).chain(asked).collect()
}

/// `table | kernel | row, of one or more cells | text`
fn parse(line: &str) -> Result<Cell> {
    let [table, kernel, row @ .., text] = &line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
        bail!("a record of a test is unreadable: {line}");
    };
    let (table, kernel, text) = ((*table).to_owned(), (*kernel).to_owned(), (*text).to_owned());
    Ok(Cell { table, kernel, row: row.join(" | "), text })
}

/// Kernels from old to new (`6.12`, then `6.12 arm64`); rows as the first kernel named them.
fn rendered(heading: &str, cells: &[Cell]) -> String {
    let age = |kernel: &&str| {
        let (series, platform) = kernel.split_once(' ').unwrap_or((kernel, ""));
        (series.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>(), platform.to_owned())
    };
    let kernels: BTreeSet<&str> = cells.iter().map(|cell| cell.kernel.as_str()).collect();
    let mut kernels: Vec<&str> = kernels.into_iter().collect();
    kernels.sort_by_key(age);
    let mut rows: Vec<&str> = Vec::new();
    for cell in cells {
        if !rows.contains(&cell.row.as_str()) {
            rows.push(&cell.row);
        }
    }
    let line = |first: &str, rest: &[&str]| format!("| {first} | {} |\n", rest.join(" | "));
    let rule = vec!["---"; heading.split('|').count()].join(" | ");
    let mut table = line(heading, &kernels) + &line(&rule, &vec!["---"; kernels.len()]);
    for row in rows {
        let text = |kernel: &&str| {
            let found = cells.iter().find(|cell| cell.row == row && cell.kernel == *kernel);
            found.map_or("", |cell| cell.text.as_str())
        };
        table += &line(row, &kernels.iter().map(text).collect::<Vec<_>>());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(said: &[&str]) -> Vec<Cell> {
        said.iter().map(|line| parse(line).expect("a record")).collect()
    }

    #[test]
    fn a_table_has_a_column_for_each_kernel_from_old_to_new() {
        let cells = cells(&[
            "features | 6.18 | TCX | 6.6 | clsact | yes",
            "features | 6.1 | TCX | 6.6 | clsact | no",
            "features | 6.1 arm64 | TCX | 6.6 | clsact | no",
            "features | 6.1 | BTF | 5.4 | no start | yes",
        ]);
        let table = rendered("feature | since | without", &cells);
        let lines = [
            "| feature | since | without | 6.1 | 6.1 arm64 | 6.18 |",
            "| --- | --- | --- | --- | --- | --- |",
            "| TCX | 6.6 | clsact | no | no | yes |",
            "| BTF | 5.4 | no start | yes |  |  |",
            "",
        ];
        assert_eq!(table, lines.join("\n"));
    }

    #[test]
    fn a_kernel_that_is_asked_alone_changes_its_own_column_only() {
        let heading = "program";
        let table = rendered(
            heading,
            &cells(&["programs | 6.1 | mr_a | 10", "programs | 6.12 | mr_a | 20", "programs | 6.12 | mr_gone | 30"]),
        );
        let asked = cells(&["programs | 6.12 | mr_a | 25", "programs | 6.12 | mr_new | 40"]);
        let table = rendered(heading, &replaced(recorded("programs", heading, &table), asked));
        let lines = ["| program | 6.1 | 6.12 |", "| --- | --- | --- |", "| mr_a | 10 | 25 |", "| mr_new |  | 40 |", ""];
        assert_eq!(table, lines.join("\n"));
    }

    #[test]
    fn an_unreadable_record_is_an_error() {
        assert!(parse("features").is_err());
    }
}
