//! `conntrack`: the flows of the per-packet path.

use anyhow::Result;
use serde::Serialize;

use super::{
    Reading,
    output::{self, Row},
};
use crate::datapath::{TrackedFlow, flows};

#[derive(Serialize)]
struct Line(TrackedFlow);

impl Row for Line {
    const HEADER: &'static [&'static str] =
        &["PROTOCOL", "DIRECTION", "FROM", "TO", "BECOMES", "STATE", "IDLE", "SERVICE PORT"];

    fn cells(&self) -> Vec<String> {
        let Self(flow) = self;
        vec![
            flow.protocol.clone(),
            flow.direction.to_owned(),
            flow.source.to_string(),
            flow.destination.to_string(),
            format!("{} -> {}", flow.translated_source, flow.translated_destination),
            flow.state.join(","),
            format!("{}s", flow.idle_seconds),
            flow.service.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }
}

pub(super) fn print(reading: &Reading) -> Result<()> {
    let rows: Vec<Line> = flows(&reading.pins()?)?.into_iter().map(Line).collect();
    output::print(reading.output, &rows, "no flows (connections that the socket hooks translate are not tracked)")
}
