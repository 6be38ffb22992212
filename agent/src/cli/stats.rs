//! `stats`: the programs' verdicts, by name.

use anyhow::Result;
use serde::Serialize;

use super::{
    Reading,
    output::{self, Row},
};
use crate::datapath::verdicts;

#[derive(Serialize)]
struct Count {
    verdict: &'static str,
    count: u64,
    description: &'static str,
}

impl Row for Count {
    const HEADER: &'static [&'static str] = &["VERDICT", "COUNT", "WHAT HAPPENED"];

    fn cells(&self) -> Vec<String> {
        vec![self.verdict.to_owned(), self.count.to_string(), self.description.to_owned()]
    }
}

pub(super) fn print(reading: &Reading) -> Result<()> {
    let counts = verdicts(&reading.pins()?)?;
    let rows: Vec<Count> = counts
        .into_iter()
        .map(|(verdict, count)| Count { verdict: verdict.name(), count, description: verdict.describe() })
        .collect();
    output::print(reading.output, &rows, "no verdicts")
}
