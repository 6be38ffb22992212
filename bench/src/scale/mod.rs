//! `bench scale`: what a large cluster's life costs one node. The stream of events of a simulated cluster goes into the
//! agent's own pipeline, at its own speed and much faster; a zone fails; and the cost of one event is taken in clusters
//! of several sizes.

mod caches;
mod cluster;
mod events;
mod page;
mod replay;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use serde::Serialize;

use self::{
    caches::Caches,
    cluster::{Cluster, State},
    events::Stream,
    replay::{Replay, resident_mib},
};
pub use self::{
    cluster::{Shape, Size},
    page::{page, table},
    replay::{Start, Stretch},
};
use crate::{machine::Machine, report::files};

/// Slices that change in a second of the cluster's own time: a rolling deployment replaces a pod in three.
const EVENTS_PER_SECOND: f64 = 20.0;
/// The same in every run.
const SEED: u64 = 20_260_101;
/// Of the zones, the one that fails is not the node's.
const FAILING: usize = 2;

/// What the command line asks for.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Nodes of the largest cluster; it has two services, and thirty pods, for each.
    #[arg(long, default_value_t = 5000)]
    pub nodes: u32,
    /// How much faster than its own time the cluster lives: 20 slices change in a second at 1.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100")]
    pub speeds: Vec<u32>,
    /// Seconds that each speed is kept up.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// Events that are timed one by one in each size of cluster.
    #[arg(long, default_value_t = 3000)]
    pub events: usize,
    /// Where `benchmarks-scale.md` goes, with a directory `benchmarks` beside it.
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,
}

#[derive(Debug, Serialize)]
pub struct Figures {
    /// The command's arguments, as typed.
    pub arguments: Vec<String>,
    pub machine: Machine,
    /// Clusters of a hundredth, a tenth and the whole of the size, in this order.
    pub curve: Vec<Point>,
    /// One whose services have fifty pods each: 250,000 by default, the size at which kube-proxy's users count minutes.
    pub wide: Point,
    pub speeds: Vec<(u32, Stretch)>,
    /// All slices with a pod in one zone of three change at once, and back.
    pub zone_fails: Stretch,
    pub zone_returns: Stretch,
}

/// What one event costs in a cluster of some size.
#[derive(Debug, Serialize)]
pub struct Point {
    pub size: Size,
    pub pods: usize,
    pub start: Start,
    pub one_by_one: Stretch,
    /// The same with the processor's caches emptied before each event: its work, wherever its data lay.
    pub cold: Stretch,
    /// Of this process, with the simulated cluster in it.
    pub resident_mib: f64,
}

/// Of the events that are timed, one in so many is timed with cold caches: emptying them takes far longer.
const COLD: usize = 10;

/// Measures everything, one cluster after the other.
///
/// # Errors
/// Not root, or whatever the pipeline could not do.
pub fn run(options: &Options) -> Result<Figures> {
    let mut machine = Machine::look();
    let nodes = |part: u32| (options.nodes / part).max(3);
    let mixed = |part| Size { nodes: nodes(part), services: nodes(part) * 2, shape: Shape::Mixed };
    // One cluster at a time is in memory.
    let (wide, ..) = point(Size { nodes: nodes(1), services: nodes(1), shape: Shape::Even(50) }, options.events)?;
    let mut curve = vec![point(mixed(100), options.events)?.0, point(mixed(10), options.events)?.0];
    let (largest, mut replay, mut stream) = point(mixed(1), options.events)?;
    curve.push(largest);
    let mut speeds = Vec::new();
    for &speed in &options.speeds {
        eprintln!("bench: {speed} times the cluster's own speed");
        let rate = EVENTS_PER_SECOND * f64::from(speed);
        let length = Duration::from_secs(options.seconds);
        speeds.push((speed, replay.at_rate(&mut stream, rate, length, SEED + u64::from(speed))?));
    }
    eprintln!("bench: a zone fails");
    let zone_fails = replay.at_once(stream.zone_becomes(FAILING, State::Lost))?;
    let zone_returns = replay.at_once(stream.zone_becomes(FAILING, State::Ready))?;
    machine.finish();
    let arguments = std::env::args().skip(1).collect();
    Ok(Figures { arguments, machine, curve, wide, speeds, zone_fails, zone_returns })
}

/// Writes the page, and in the directory beside it the figures and the plots that it names.
///
/// # Errors
/// Names the file that cannot be written.
pub fn write(figures: &Figures, options: &Options) -> Result<()> {
    let beside = options.out.join("benchmarks");
    let mut files = vec![
        (beside.join("scale.json"), serde_json::to_string_pretty(figures)? + "\n"),
        (options.out.join("benchmarks-scale.md"), page(figures)),
    ];
    files.extend(page::plots(figures)?.into_iter().map(|(name, plot)| (beside.join(name), plot)));
    files::put(files)
}

/// A cluster that is all in the maps, and what one event costs there.
fn point(size: Size, events: usize) -> Result<(Point, Replay, Stream)> {
    let mut stream = Stream::new(Cluster::new(size, SEED), SEED);
    let pods = stream.cluster().pods();
    eprintln!("bench: {} nodes, {} services, {pods} pods", size.nodes, size.services);
    let (mut replay, start) = Replay::start(stream.cluster())?;
    let one_by_one = replay.one_by_one(&mut stream, events, || {})?;
    // Before the memory that empties the caches is part of it.
    let resident_mib = resident_mib()?;
    let caches = Caches::new()?;
    let cold = replay.one_by_one(&mut stream, events.div_ceil(COLD), || caches.empty())?;
    Ok((Point { size, pods, start, one_by_one, cold, resident_mib }, replay, stream))
}
