//! `bench services`: what a node pays for N services, from one to a hundred thousand.

mod change;
mod node;
mod report;
mod traffic;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{cluster::Families, stats::Spread};

pub use report::table;

/// What the command line asks for.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Numbers of services, with 10 endpoints each in every family.
    #[arg(long, value_delimiter = ',', default_value = "1,1000,10000")]
    pub sizes: Vec<u32>,
    /// Address families of the services.
    #[arg(long, value_enum, default_value = "dual")]
    pub families: Families,
    /// Repetitions of every traffic figure; the report gives their median and extremes.
    #[arg(long, default_value_t = 5)]
    pub runs: u32,
    /// Operations of each target in one run.
    #[arg(long, default_value_t = 2000)]
    pub rounds: u32,
    /// Changed EndpointSlices that are timed at each size.
    #[arg(long, default_value_t = 200)]
    pub changes: u32,
    /// Where `services.json` goes.
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,
}

/// All that was measured at one size.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub services: u32,
    pub families: Families,
    /// Seconds in which the agent decided on and wrote everything that it was told at its start.
    pub programming_seconds: f64,
    /// Seconds from the agent's start until all was in the maps: lists, parsing and all.
    pub start_seconds: f64,
    pub change_milliseconds_p50: f64,
    pub change_milliseconds_p99: f64,
    /// Resident memory of the agent, after the first synchronisation.
    pub resident_mib: f64,
    /// The same without pages that it shares with the maps: what the agent itself costs.
    pub anonymous_mib: f64,
    /// Kernel memory of all its maps.
    pub maps_mib: f64,
    pub traffic: Vec<Ratio>,
}

/// A traffic figure as a ratio to the direct path of the same run.
#[derive(Debug, Serialize)]
pub struct Ratio {
    /// As in `connect IPv4, last service`.
    pub what: String,
    pub p50: Spread,
    pub p99: Spread,
    /// Of the direct path, for orientation only: it is this machine's.
    pub direct_p50_microseconds: f64,
}

/// Measures every size, one after the other, each on a node of its own.
pub fn run(options: &Options) -> Result<Vec<Figures>> {
    let mut all = Vec::new();
    for &services in &options.sizes {
        eprintln!("bench: {services} services x {} endpoints", crate::cluster::ENDPOINTS);
        all.push(measure(services.max(1), options).with_context(|| format!("{services} services"))?);
    }
    fs::create_dir_all(&options.out).with_context(|| format!("cannot create {}", options.out.display()))?;
    let path = options.out.join("services.json");
    fs::write(&path, serde_json::to_string_pretty(&all)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("bench: figures written to {}", path.display());
    Ok(all)
}

fn measure(services: u32, options: &Options) -> Result<Figures> {
    let mut node = node::Node::start(services, options.families)?;
    let [resident_mib, anonymous_mib] = node.memory_mib()?;
    let mut changes = change::milliseconds(&node, options.changes)?;
    changes.sort_by(f64::total_cmp);
    let at = |part: f64| changes.get(((changes.len() - 1) as f64 * part).round() as usize).copied().unwrap_or(0.0);
    Ok(Figures {
        services,
        families: options.families,
        programming_seconds: node.programming_seconds,
        start_seconds: node.start_seconds,
        change_milliseconds_p50: at(0.50),
        change_milliseconds_p99: at(0.99),
        resident_mib,
        anonymous_mib,
        maps_mib: node.maps_mib()?,
        traffic: traffic::ratios(&mut node, options)?,
    })
}
