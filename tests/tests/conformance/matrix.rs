//! The table of docs/conformance.md: every row of the project's own tables, and how it was served on each path. Compared
//! on every run; `MILLRACE_RECORD=1` writes it.

use std::{
    env, fs,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/conformance.md");
const BEGIN: &str = "<!-- rows -->\n";
const END: &str = "<!-- end of rows -->";
const HINT: &str =
    "is it as it should be? `MILLRACE_RECORD=1 cargo test -p millrace-tests --test conformance` records it";

/// Several paths are run at a time, and each has a column.
static WRITING: Mutex<()> = Mutex::new(());

/// One path's column.
pub(crate) struct Column<'a> {
    pub(crate) heading: &'a str,
    /// A row's name, and what it was run with.
    pub(crate) cells: Vec<(String, String)>,
}

impl Column<'_> {
    /// Compares the column with what is recorded, or records it.
    pub(crate) fn check(&self) -> Result<()> {
        let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let text = fs::read_to_string(FILE).with_context(|| FILE.to_owned())?;
        let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
        let (before, (table, after)) =
            parts.with_context(|| format!("{FILE} has no `{}` and `{END}`", BEGIN.trim()))?;
        let mut table = Table::parse(table)?;
        if env::var_os("MILLRACE_RECORD").is_some() {
            table.set(self);
            return Ok(fs::write(FILE, format!("{before}{BEGIN}{}{END}{after}", table.text()))?);
        }
        let recorded = table.column(self.heading);
        ensure!(
            recorded == self.cells,
            "{FILE} says of `{}`:\n{recorded:#?}\nnot:\n{:#?}\n{HINT}",
            self.heading,
            self.cells
        );
        Ok(())
    }
}

/// Cells by row; the first column has the rows' names.
struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn parse(text: &str) -> Result<Self> {
        let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        let mut lines = text.lines().filter(|line| line.starts_with('|')).map(cells);
        let headings: Vec<String> = lines.next().with_context(|| format!("{FILE}: the table has no heading"))?;
        let rows: Vec<Vec<String>> = lines.skip(1).collect();
        for row in &rows {
            ensure!(row.len() == headings.len(), "{FILE}: a row of {} cells: {row:?}", row.len());
        }
        Ok(Self { headings, rows })
    }

    /// The rows that have something in this column.
    fn column(&self, heading: &str) -> Vec<(String, String)> {
        let Some(at) = self.headings.iter().position(|other| other == heading) else { return Vec::new() };
        let filled = self.rows.iter().filter(|row| !row[at].is_empty());
        filled.map(|row| (row[0].clone(), row[at].clone())).collect()
    }

    fn set(&mut self, column: &Column<'_>) {
        let at = self.headings.iter().position(|other| other == column.heading).unwrap_or_else(|| {
            self.headings.push(column.heading.to_owned());
            self.rows.iter_mut().for_each(|row| row.push(String::new()));
            self.headings.len() - 1
        });
        self.rows.iter_mut().for_each(|row| row[at].clear());
        for (place, (name, cell)) in column.cells.iter().enumerate() {
            let known = self.rows.iter().position(|row| row[0] == *name);
            let known = known.unwrap_or_else(|| {
                let mut row = vec![String::new(); self.headings.len()];
                row[0].clone_from(name);
                let place = place.min(self.rows.len());
                self.rows.insert(place, row);
                place
            });
            self.rows[known][at].clone_from(cell);
        }
        self.rows.retain(|row| row[1..].iter().any(|cell| !cell.is_empty()));
    }

    fn text(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = vec!["---".to_owned(); self.headings.len()];
        line(&self.headings) + &line(&rule) + &self.rows.iter().map(|row| line(row)).collect::<String>()
    }
}

#[test]
fn a_column_that_is_written_is_read_back_and_leaves_the_others_alone() {
    let cells = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        all.iter().map(|(row, cell)| ((*row).to_owned(), (*cell).to_owned())).collect()
    };
    let mut table = Table::parse("| row | old |\n| --- | --- |\n| one | a |\n| gone |  |\n").unwrap();
    let new = Column { heading: "new", cells: cells(&[("zero", "x"), ("one", "y")]) };
    table.set(&new);
    let table = Table::parse(&table.text()).unwrap();
    assert_eq!(table.column("new"), new.cells);
    assert_eq!(table.column("old"), cells(&[("one", "a")]));
    assert_eq!(table.rows.len(), 2, "a row that no table has any more goes");
}
