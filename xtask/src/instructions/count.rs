//! A row of docs/instructions.md, and the line of a console that becomes one.

use anyhow::{Context as _, Result};

/// The way that all others are held against.
pub(super) const DIRECT: &str = "direct";

/// What a connection costs on one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) way: String,
    pub(super) services: u32,
    /// Of client, server and kernel: the median connection.
    pub(super) instructions: u64,
}

impl Count {
    /// What the counting test said: `way | services | median | ...`.
    pub(super) fn said(line: &str) -> Result<Self> {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        Self::of(&cells).with_context(|| format!("a count is unreadable: {line}"))
    }

    fn of(cells: &[&str]) -> Result<Self> {
        let [way, services, instructions, ..] = cells else { anyhow::bail!("three cells are wanted") };
        Ok(Self { way: (*way).to_owned(), services: services.parse()?, instructions: instructions.parse()? })
    }

    /// `None` if the direct way was not counted with it.
    pub(super) fn ratio(&self, all: &[Self]) -> Option<f64> {
        let direct = all.iter().find(|count| count.way == DIRECT && count.instructions > 0)?;
        Some(self.instructions as f64 / direct.instructions as f64)
    }
}

/// The rows of a table.
pub(super) fn read(table: &str) -> Result<Vec<Count>> {
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| Count::said(row.trim_matches('|'))).collect()
}

/// As a table.
pub(super) fn rendered(counts: &[Count]) -> Result<String> {
    let mut table = "| way | services | instructions | ratio to direct |\n| --- | --- | --- | --- |\n".to_owned();
    for count in counts {
        let ratio = count.ratio(counts).context("the direct way was not counted")?;
        table += &format!("| {} | {} | {} | {ratio:.3} |\n", count.way, count.services, count.instructions);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let said = ["direct | 0 | 107000 | 1 | 2 | 3", "past millrace | 1 | 110000", "millrace | 1000 | 112350"];
        let counts: Vec<_> = said.iter().map(|line| Count::said(line).expect("a count")).collect();
        let table = rendered(&counts).expect("the direct way is there");
        assert!(table.ends_with("| millrace | 1000 | 112350 | 1.050 |\n"), "{table}");
        assert_eq!(read(&table).expect("a table"), counts);
    }

    #[test]
    fn without_the_direct_way_nothing_is_written() {
        assert!(rendered(&[Count::said("millrace | 1 | 5").expect("a count")]).is_err());
        assert!(Count::said("millrace | 1").is_err());
        assert!(Count::said("millrace | 1 | many").is_err());
    }
}
