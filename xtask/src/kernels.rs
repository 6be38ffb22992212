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
const TABLES: [(&str, &str); 2] = [("features", "feature | since | without it"), ("programs", "program")];

/// One cell, as a test said it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    table: String,
    kernel: String,
    row: String,
    text: String,
}

pub(crate) fn record() -> Result<()> {
    privileges::require("the tests")?;
    setup::everything()?;
    let mut command = cargo("test");
    command.args(TESTED).args(["--test", "kernel_boot", "--", "recorded_", "--nocapture"]).env("MILLRACE_RECORD", "1");
    let here = capture(&mut command)?;
    let mut said: Vec<String> = here.lines().filter_map(|line| after(line, RECORD)).map(str::to_owned).collect();
    said.extend(kernel::test(&kernel::Choice::All.versions(), Task::Record)?);
    let cells = said.iter().map(|line| parse(line)).collect::<Result<Vec<_>>>()?;
    let path = workspace::root().join("docs/kernels.md");
    let mut text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for (table, heading) in TABLES {
        let of_table: Vec<_> = cells.iter().filter(|cell| cell.table == table).collect();
        text = document::with_table(&text, table, &rendered(heading, &of_table))
            .with_context(|| format!("in {}", path.display()))?;
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written: {}", path.display());
    Ok(())
}

/// `table | kernel | row, of one or more cells | text`
fn parse(line: &str) -> Result<Cell> {
    let [table, kernel, row @ .., text] = &line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
        bail!("a record of a test is unreadable: {line}");
    };
    let (table, kernel, text) = ((*table).to_owned(), (*kernel).to_owned(), (*text).to_owned());
    Ok(Cell { table, kernel, row: row.join(" | "), text })
}

/// Kernels from old to new; rows as the first kernel named them.
fn rendered(heading: &str, cells: &[&Cell]) -> String {
    let number = |kernel: &&str| kernel.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    let kernels: BTreeSet<&str> = cells.iter().map(|cell| cell.kernel.as_str()).collect();
    let mut kernels: Vec<&str> = kernels.into_iter().collect();
    kernels.sort_by_key(number);
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

    #[test]
    fn a_table_has_a_column_for_each_kernel_from_old_to_new() {
        let said = [
            "features | 6.18 | TCX | 6.6 | clsact | yes",
            "features | 6.1 | TCX | 6.6 | clsact | no",
            "features | 6.1 | BTF | 5.4 | no start | yes",
        ];
        let cells: Vec<_> = said.iter().map(|line| parse(line).expect("a record")).collect();
        let table = rendered("feature | since | without", &cells.iter().collect::<Vec<_>>());
        let lines = [
            "| feature | since | without | 6.1 | 6.18 |",
            "| --- | --- | --- | --- | --- |",
            "| TCX | 6.6 | clsact | no | yes |",
            "| BTF | 5.4 | no start | yes |  |",
            "",
        ];
        assert_eq!(table, lines.join("\n"));
    }

    #[test]
    fn an_unreadable_record_is_an_error() {
        assert!(parse("features").is_err());
    }
}
