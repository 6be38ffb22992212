//! What a run found, and how it is shown: JSON with every figure, a Markdown page, plots. Pure but for [`write`].

pub mod markdown;

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    cluster::{Families, Position},
    contestants::{Kind, Memory},
    machine::Machine,
    probe::client::Operation,
    stats::Spread,
};

/// One run of `bench services`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its arguments, as typed.
    pub arguments: Vec<String>,
    pub machine: Machine,
    pub families: Families,
    pub runs: u32,
    pub rounds: u32,
    /// What a rival's command may take.
    pub limit_seconds: f64,
    pub participants: Vec<Participant>,
    /// In the order in which they were measured.
    pub sizes: Vec<Size>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    pub kind: Kind,
    pub version: Option<String>,
    /// Why it could not take part.
    pub absent: Option<String>,
}

/// All that was measured with one number of services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Size {
    pub services: u32,
    pub figures: Vec<Figures>,
}

/// One contestant at one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub kind: Kind,
    /// Why there are no figures; all others are then empty.
    pub skipped: Option<String>,
    /// From nothing to all services, seconds.
    pub programming: Option<Spread>,
    /// The same with an agent's start and its lists from the API server.
    pub start: Option<Spread>,
    /// One endpoint of one service goes or comes, milliseconds: the median, the fastest and the slowest.
    pub change: Option<Spread>,
    pub memory: Memory,
    pub traffic: Vec<Traffic>,
}

/// Where a client connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Destination {
    Service(Position),
    /// An endpoint, past all services: what this node costs traffic that is none of a service's.
    Endpoint,
}

impl Destination {
    pub const ALL: [Self; 4] = [
        Self::Service(Position::First),
        Self::Service(Position::Random),
        Self::Service(Position::Last),
        Self::Endpoint,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service(position) => position.name(),
            Self::Endpoint => "endpoint",
        }
    }
}

/// One operation to one destination. Ratios are to the same operation on the node without a proxy, in the same run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    pub operation: Operation,
    pub destination: Destination,
    /// Microseconds.
    pub p50: Spread,
    pub p99: Spread,
    /// Microseconds of processor time, client, server and kernel.
    pub cpu: Spread,
    pub p50_ratio: Spread,
    pub p99_ratio: Spread,
    pub cpu_ratio: Spread,
}

impl Size {
    #[must_use]
    pub fn of(&self, kind: Kind) -> Option<&Figures> {
        self.figures.iter().find(|figures| figures.kind == kind)
    }
}

impl Figures {
    /// Of a contestant that was not measured.
    #[must_use]
    pub fn skipped(kind: Kind, why: String) -> Self {
        Self { skipped: Some(why), ..Self::of(kind) }
    }

    /// None yet.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        let memory = Memory::default();
        Self { kind, skipped: None, programming: None, start: None, change: None, memory, traffic: Vec::new() }
    }

    #[must_use]
    pub fn traffic(&self, operation: Operation, destination: Destination) -> Option<&Traffic> {
        self.traffic.iter().find(|traffic| traffic.operation == operation && traffic.destination == destination)
    }
}

/// Writes `benchmarks.md`, and beside it, in `benchmarks/`, the figures and plots that it names.
///
/// # Errors
/// Names the file that cannot be written.
pub fn write(report: &Report, directory: &Path) -> Result<()> {
    let beside = directory.join("benchmarks");
    fs::create_dir_all(&beside).with_context(|| format!("cannot create {}", beside.display()))?;
    let put = |path: &Path, text: String| {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("bench: wrote {}", path.display());
        Ok::<_, anyhow::Error>(())
    };
    put(&beside.join("services.json"), serde_json::to_string_pretty(report)? + "\n")?;
    put(&directory.join("benchmarks.md"), markdown::page(report))
}
