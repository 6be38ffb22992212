//! Events into the agent's pipeline, at their time or as fast as it takes them, while another thread makes up what happens
//! next.

use std::{
    fs,
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use millrace_agent::{
    datapath::{Constants, Limits},
    lb::NodeInfo,
};
use millrace_tests::interrupt;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};

use super::{
    cluster::{Cluster, NODE, ZONES},
    events::{Event, Stream},
};
use crate::agent::Agent;

/// Changes taken in before a round, at most: as the agent does.
const BATCH: usize = 4096;
/// Events that are made up ahead of their time.
const AHEAD: usize = 1024;
/// Room for the blocks of the large services while they are replaced.
const BACKENDS: u32 = 1 << 19;

/// A node's agent.
pub(super) struct Replay(Agent);

/// What it took to have a cluster in the maps, from nothing.
#[derive(Debug, Default, serde::Serialize)]
pub struct Start {
    /// Parsing all objects, as the API server writes them.
    pub parsing_seconds: f64,
    /// Deciding and writing: what kube-proxy calls a sync.
    pub programming_seconds: f64,
}

/// What a stretch of events came to.
#[derive(Debug, Default, serde::Serialize)]
pub struct Stretch {
    pub events: usize,
    pub seconds: f64,
    /// From the moment that an event was due to its effect in the maps.
    pub latency_ms_p50: f64,
    pub latency_ms_p99: f64,
    pub latency_ms_max: f64,
    /// Of the thread that parses, decides and writes.
    pub cpu_us_per_event: f64,
    /// Operations on the kernel's maps.
    pub written: usize,
    /// Of JSON: how large the slices were that changed.
    pub bytes_per_event: f64,
}

impl Replay {
    /// The cluster as it is at first, in the maps.
    pub(super) fn start(cluster: &Cluster) -> Result<(Self, Start)> {
        let limits = Limits { backends: BACKENDS, slots: BACKENDS, ..Limits::default() };
        let node = NodeInfo { name: NODE.into(), zone: Some(ZONES[0].into()), ..NodeInfo::default() };
        let mut replay = Self(Agent::start("scale", node, &limits, &Constants::default())?);
        let start = replay.fill(cluster)?;
        Ok((replay, start))
    }

    fn fill(&mut self, cluster: &Cluster) -> Result<Start> {
        let mut parsing = Duration::ZERO;
        for service in 0..cluster.size.services {
            let object = cluster.service(service).to_string();
            let begun = Instant::now();
            self.0.take_service(object.as_bytes())?;
            parsing += begun.elapsed();
        }
        for slice in cluster.slices() {
            let object = cluster.slice(slice).to_string();
            let begun = Instant::now();
            self.0.take_slice(object.as_bytes())?;
            parsing += begun.elapsed();
        }
        let begun = Instant::now();
        self.0.synced()?;
        Ok(Start { parsing_seconds: parsing.as_secs_f64(), programming_seconds: begun.elapsed().as_secs_f64() })
    }

    /// Events at random moments, `rate` a second on average, for `length`.
    pub(super) fn at_rate(&mut self, stream: &mut Stream, rate: f64, length: Duration, seed: u64) -> Result<Stretch> {
        let (sender, due) = mpsc::sync_channel(AHEAD);
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut at = 0.0;
                while at < length.as_secs_f64() {
                    // Nobody listens any more after a failure, which is told elsewhere.
                    if sender.send((Duration::from_secs_f64(at), stream.rolling())).is_err() {
                        return;
                    }
                    at -= (1.0 - random.f64()).ln() / rate;
                }
            });
            self.work_off(&due)
        })
    }

    /// Events that are all due at once.
    pub(super) fn at_once(&mut self, events: Vec<Event>) -> Result<Stretch> {
        let (sender, due) = mpsc::channel();
        for event in events {
            sender.send((Duration::ZERO, event)).context("the queue is there until it is worked off")?;
        }
        drop(sender);
        self.work_off(&due)
    }

    /// Events one after the other, each in the maps before the next one comes, and after what is done `between` them.
    pub(super) fn one_by_one(
        &mut self,
        stream: &mut Stream,
        events: usize,
        mut between: impl FnMut(),
    ) -> Result<Stretch> {
        let (mut taken, mut bytes, mut written) = (Vec::new(), 0, 0);
        let (start, mut cpu) = (Instant::now(), Duration::ZERO);
        for _ in 0..events {
            interrupt::check()?;
            let event = stream.rolling();
            bytes += event.len();
            between();
            let (begun, used) = (Instant::now(), cpu_time()?);
            self.0.take_slice(&event)?;
            written += self.0.round()?;
            taken.push(begun.elapsed());
            cpu += cpu_time()?.saturating_sub(used);
        }
        Ok(Stretch { written, ..stretch(&mut taken, bytes, start.elapsed(), cpu) })
    }

    fn work_off(&mut self, due: &Receiver<(Duration, Event)>) -> Result<Stretch> {
        let (start, used) = (Instant::now(), cpu_time()?);
        let (mut taken, mut bytes, mut written, mut next) = (Vec::new(), 0, 0, due.recv().ok());
        while let Some((at, event)) = next {
            interrupt::check()?;
            thread::sleep((start + at).saturating_duration_since(Instant::now()));
            let mut batch = vec![at];
            bytes += event.len();
            self.0.take_slice(&event)?;
            loop {
                next = due.recv().ok();
                match &next {
                    Some((at, event)) if start + *at <= Instant::now() && batch.len() < BATCH => {
                        bytes += event.len();
                        self.0.take_slice(event)?;
                        batch.push(*at);
                    }
                    _ => break,
                }
            }
            written += self.0.round()?;
            let now = start.elapsed();
            taken.extend(batch.into_iter().map(|at| now.saturating_sub(at)));
        }
        let cpu = cpu_time()?.saturating_sub(used);
        Ok(Stretch { written, ..stretch(&mut taken, bytes, start.elapsed(), cpu) })
    }
}

fn stretch(taken: &mut [Duration], bytes: usize, length: Duration, cpu: Duration) -> Stretch {
    taken.sort_unstable();
    let at = |part: f64| {
        let index = (taken.len().saturating_sub(1) as f64 * part).round() as usize;
        taken.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    Stretch {
        events: taken.len(),
        seconds: length.as_secs_f64(),
        latency_ms_p50: at(0.5),
        latency_ms_p99: at(0.99),
        latency_ms_max: at(1.0),
        cpu_us_per_event: cpu.as_secs_f64() * 1e6 / taken.len().max(1) as f64,
        written: 0,
        bytes_per_event: bytes as f64 / taken.len().max(1) as f64,
    }
}

/// That this thread has used.
fn cpu_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).context("getrusage")?;
    let microseconds = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(Duration::from_micros(microseconds.try_into().unwrap_or(0)))
}

/// Resident memory of this process in MiB, the simulated cluster and the maps' mapped windows included.
pub(super) fn resident_mib() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.split_whitespace().next().context("no number")?.parse()?;
    Ok(kib / 1024.0)
}
