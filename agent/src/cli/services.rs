//! `services`: who answers where, and how many endpoints stand behind it.

use std::collections::BTreeMap;

use anyhow::Result;
use millrace_common::service::{Attributes, NoEndpoints, ServiceRecord, SetWord};
use serde::Serialize;

use super::{
    Reading,
    output::{self, Row},
};
use crate::{datapath::snapshot, diff::Snapshot, lb::Frontend};

#[derive(Serialize)]
struct Service {
    index: u32,
    name: String,
    frontends: Vec<ServiceFrontend>,
    internal_policy: &'static str,
    external_policy: &'static str,
    algorithm: &'static str,
    /// Seconds; 0 without session affinity.
    affinity_seconds: u32,
    cluster: Set,
    local: Set,
}

#[derive(Serialize)]
struct ServiceFrontend {
    address: String,
    kind: &'static str,
}

/// What becomes of a new flow that goes by this set.
#[derive(Serialize)]
struct Set {
    endpoints: u32,
    verdict: SetVerdict,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum SetVerdict {
    /// To one of the endpoints.
    Serve,
    /// The policies send none this way.
    Unused,
    Reject,
    Drop,
}

impl Row for Service {
    const HEADER: &'static [&'static str] =
        &["SERVICE PORT", "FRONTEND", "KIND", "POLICY", "CHOICE", "AFFINITY", "ENDPOINTS", "LOCAL"];

    fn cells(&self) -> Vec<String> {
        let column =
            |cell: fn(&ServiceFrontend) -> &str| self.frontends.iter().map(cell).collect::<Vec<_>>().join("\n");
        let affinity = if self.affinity_seconds == 0 { "-".to_owned() } else { format!("{}s", self.affinity_seconds) };
        vec![
            self.name.clone(),
            column(|frontend| &frontend.address),
            column(|frontend| frontend.kind),
            self.internal_policy.to_owned(),
            self.algorithm.to_owned(),
            affinity,
            self.cluster.text(),
            self.local.text(),
        ]
    }
}

impl Set {
    fn of(word: u64) -> Self {
        let word = SetWord(word);
        let verdict = match (word.count(), word.no_endpoints()) {
            (0, NoEndpoints::Unused) => SetVerdict::Unused,
            (0, NoEndpoints::Reject) => SetVerdict::Reject,
            (0, NoEndpoints::Drop) => SetVerdict::Drop,
            _ => SetVerdict::Serve,
        };
        Self { endpoints: word.count(), verdict }
    }

    fn text(&self) -> String {
        match self.verdict {
            SetVerdict::Serve => self.endpoints.to_string(),
            SetVerdict::Unused => "-".to_owned(),
            SetVerdict::Reject => "none: refused".to_owned(),
            SetVerdict::Drop => "none here: dropped".to_owned(),
        }
    }
}

pub(super) fn print(reading: &Reading) -> Result<()> {
    let snapshot = snapshot(&reading.pins()?)?;
    output::print(reading.output, &rows(&snapshot), "no services")
}

fn rows(snapshot: &Snapshot) -> Vec<Service> {
    let mut frontends: BTreeMap<u32, Vec<ServiceFrontend>> = BTreeMap::new();
    for (frontend, (kind, index)) in &snapshot.frontends {
        let shown = ServiceFrontend { address: address(frontend), kind: kind.name() };
        frontends.entry(*index).or_default().push(shown);
    }
    let mut rows: Vec<Service> = snapshot
        .names
        .iter()
        .map(|(index, name)| {
            let record = snapshot.records.get(index).copied().unwrap_or_default();
            row(*index, name, record, frontends.remove(index).unwrap_or_default())
        })
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

fn row(index: u32, name: &str, record: ServiceRecord, frontends: Vec<ServiceFrontend>) -> Service {
    let attributes = Attributes(record.attributes);
    let policy = |flag| if attributes.has(flag) { "Local" } else { "Cluster" };
    let has_table = SetWord(record.cluster).has_table() || SetWord(record.local).has_table();
    Service {
        index,
        name: name.to_owned(),
        frontends,
        internal_policy: policy(Attributes::INTERNAL_LOCAL),
        external_policy: policy(Attributes::EXTERNAL_LOCAL),
        algorithm: if has_table { "maglev" } else { "random" },
        affinity_seconds: attributes.affinity_seconds(),
        cluster: Set::of(record.cluster),
        local: Set::of(record.local),
    }
}

/// `10.96.0.1:443/TCP`, `[fd00::1]:443/TCP`.
fn address(frontend: &Frontend) -> String {
    let socket = std::net::SocketAddr::new(frontend.address, frontend.port);
    format!("{socket}/{}", frontend.protocol.name())
}
