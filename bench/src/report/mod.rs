//! What a run found, and how it is shown: JSON with every figure, a Markdown page, plots. Pure but for [`write`].

pub mod bars;
pub(crate) mod files;
pub mod markdown;
pub mod plots;

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    cluster::{Clients, Families, Position},
    contestants::{Kind, Memory},
    machine::Machine,
    probe::client::Operation,
    rivals::Way,
    stats::Spread,
};

/// A contestant's programming that takes longer is done once only.
pub const QUICK_SECONDS: u64 = 3;

/// One run of `bench services`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its arguments, as typed.
    pub arguments: Vec<String>,
    pub machine: Machine,
    pub families: Families,
    #[serde(default)]
    pub clients: Clients,
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
    /// It was ended when it had taken as long as a rival's command may take.
    pub given_up: bool,
    /// From nothing to all services, seconds.
    pub programming: Option<Spread>,
    /// How often that was done. A version that did not count it has 0.
    #[serde(default)]
    pub programmed: u32,
    /// The same with an agent's start and its lists from the API server.
    pub start: Option<Spread>,
    /// Where the time of `programming` went, as far as it went several ways.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// One endpoint of one service goes or comes, milliseconds: the median, the fastest and the slowest.
    pub change: Option<Spread>,
    /// The slowest hundredth of these.
    #[serde(default)]
    pub change_p99: Option<f64>,
    pub memory: Memory,
    pub traffic: Vec<Traffic>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub floods: Vec<Flood>,
    pub churn: Option<Churn>,
}

/// One way into the kernel, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub way: Way,
    pub took: Spread,
}

/// Connections under load while endpoints of their service were replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Churn {
    pub replaced_per_second: f64,
    /// How often the proxy was told: one that is busy with a state is next told the newest.
    pub told_per_second: f64,
    pub connections: u64,
    /// Nobody answered.
    pub failed: u64,
    /// Made to an endpoint that had been gone for more than 100 ms. Here it still answers; a pod would not.
    pub stale: u64,
    /// How long the endpoint of a connection had been gone at most.
    pub latest_milliseconds: f64,
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
    /// `p50_ratio` over that of [`Destination::Endpoint`]: what the translation adds to a connection of the same node.
    pub p50_own_ratio: Spread,
}

/// Small datagrams to one destination without a pause, counted where they arrived. Ratios as above.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flood {
    pub destination: Destination,
    /// That arrived, in the median of a run's floods.
    pub per_second: Spread,
    /// Nanoseconds of processor time for each that arrived, client, server and kernel.
    pub cpu: Spread,
    /// The part that did not arrive, between 0 and 1.
    pub lost: Spread,
    pub per_second_ratio: Spread,
    pub cpu_ratio: Spread,
}

impl Report {
    /// Of its page, without the ending, and of the directory beside it: neither a run in a machine of its own nor one of
    /// another family or of other clients takes the place of the others.
    #[must_use]
    pub fn name(&self) -> String {
        let place = if self.machine.guest.is_some() { "-vm" } else { "" };
        let family = match self.families {
            Families::V4 => "",
            Families::V6 => "-ipv6",
            Families::Dual => "-dual",
        };
        let clients = match self.clients {
            Clients::Pods => "",
            Clients::Outside => "-outside",
            Clients::Through => "-through",
        };
        format!("benchmarks{place}{clients}{family}")
    }

    /// Whether it was measured.
    #[must_use]
    pub fn has(&self, kind: Kind) -> bool {
        self.participants.iter().any(|participant| participant.kind == kind && participant.absent.is_none())
    }

    /// Whether millrace's programs are part of what it takes of the kernel's memory.
    #[must_use]
    pub fn counts_programs(&self) -> bool {
        self.sizes.iter().flat_map(|size| &size.figures).any(|figures| figures.memory.programs.is_some())
    }

    /// Whether datagrams were counted.
    #[must_use]
    pub fn has_floods(&self) -> bool {
        self.sizes.iter().flat_map(|size| &size.figures).any(|figures| !figures.floods.is_empty())
    }

    #[must_use]
    pub fn is_emulated(&self) -> bool {
        self.machine.guest.as_ref().is_some_and(|guest| guest.emulated)
    }
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
        Self {
            kind,
            skipped: None,
            given_up: false,
            programming: None,
            programmed: 0,
            start: None,
            parts: Vec::new(),
            change: None,
            change_p99: None,
            memory,
            traffic: Vec::new(),
            floods: Vec::new(),
            churn: None,
        }
    }

    /// Whether the figure of programming is one alone.
    #[must_use]
    pub fn was_programmed_once(&self) -> bool {
        match (self.programmed, self.programming) {
            (0, Some(took)) => took.median > QUICK_SECONDS as f64 && took.min == took.max,
            (times, _) => times == 1,
        }
    }

    /// Seconds of programming that went one way.
    #[must_use]
    pub fn part(&self, way: Way) -> Option<Spread> {
        self.parts.iter().find(|part| part.way == way).map(|part| part.took)
    }

    #[must_use]
    pub fn traffic(&self, operation: Operation, destination: Destination) -> Option<&Traffic> {
        self.traffic.iter().find(|traffic| traffic.operation == operation && traffic.destination == destination)
    }

    #[must_use]
    pub fn flood(&self, destination: Destination) -> Option<&Flood> {
        self.floods.iter().find(|flood| flood.destination == destination)
    }
}

/// Writes the page ([`Report::name`]), and in the directory beside it the figures and plots that it names.
///
/// # Errors
/// Names the file that cannot be written.
pub fn write(report: &Report, directory: &Path) -> Result<()> {
    let beside = directory.join(report.name());
    let mut files = vec![(beside.join("services.json"), serde_json::to_string(report)? + "\n")];
    files.extend(plots::plots(report)?.into_iter().map(|(name, plot)| (beside.join(name), plot)));
    files.push((beside.with_extension("md"), markdown::page(report)));
    files::put(files)
}

/// The figures that a run wrote.
///
/// # Errors
/// There are none, or they are another version's.
pub fn read(path: &Path) -> Result<Report> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} does not hold the figures of a run", path.display()))
}
