//! From nothing to N services, and one change among N. One contestant at a time, with no traffic.

use std::{
    collections::BTreeMap,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use millrace_tests::interrupt;

use super::stage::Stage;
use crate::{
    contestants::Kind,
    report::{self, Part},
    rivals::{self, Way},
    stats::{percentile, spread},
};

/// What takes longer is done once only.
const QUICK: Duration = Duration::from_secs(report::QUICK_SECONDS);
/// For all changes of one contestant.
const BUDGET: Duration = Duration::from_secs(5);
/// Between two changes: one at a time; what a burst costs is another question.
const PAUSE: Duration = Duration::from_millis(2);

pub(super) enum Outcome {
    Done,
    /// The rival was given up, and this is how the report says it.
    TooSlow(String),
}

/// Programs all services, so many times where that is quick; at the end they are there.
pub(super) fn all(stage: &mut Stage, times: u32) -> Result<Outcome> {
    if stage.figures.kind == Kind::Direct {
        return Ok(Outcome::Done);
    }
    let (mut took, mut started, mut parts) = (Vec::new(), Vec::new(), BTreeMap::<Way, Vec<f64>>::new());
    loop {
        let programmed = match stage.contestant.program() {
            Ok(programmed) => programmed,
            Err(error) => return given_up(error),
        };
        took.push(programmed.took.as_secs_f64());
        started.extend(programmed.start.map(|start| start.as_secs_f64()));
        for part in &programmed.parts {
            parts.entry(part.way).or_default().push(part.took.as_secs_f64());
        }
        if took.len() >= times as usize || programmed.took > QUICK {
            break;
        }
        stage.contestant.clear()?;
        interrupt::check()?;
    }
    stage.figures.programming = Some(spread(&took));
    stage.figures.programmed = took.len() as u32;
    stage.figures.start = (!started.is_empty()).then(|| spread(&started));
    stage.figures.parts = parts.into_iter().map(|(way, took)| Part { way, took: spread(&took) }).collect();
    stage.figures.memory = stage.contestant.memory()?;
    eprintln!("bench:   {}: programmed in {:.3} s", stage.figures.kind.name(), spread(&took).median);
    Ok(Outcome::Done)
}

fn given_up(error: anyhow::Error) -> Result<Outcome> {
    match error.downcast_ref() {
        Some(rivals::Error::TooSlow { limit, .. }) => {
            eprintln!("bench:   {error}");
            Ok(Outcome::TooSlow(format!("given up after {} s", limit.as_secs())))
        }
        _ => Err(error),
    }
}

/// One endpoint of a service goes with the even changes and is back with the odd ones.
pub(super) fn changes(stages: &mut [Box<Stage>], changes: u32) -> Result<()> {
    for stage in stages.iter_mut().filter(|stage| stage.figures.kind != Kind::Direct) {
        let nanoseconds = one_by_one(stage, changes).with_context(|| stage.figures.kind.name())?;
        let took: Vec<f64> = nanoseconds.iter().map(|took| *took as f64 / 1e6).collect();
        let p99 = percentile(&nanoseconds, 99.0) as f64 / 1e6;
        stage.figures.change = Some(spread(&took));
        stage.figures.change_p99 = Some(p99);
        let name = stage.figures.kind.name();
        eprintln!("bench:   {name}: one change in {:.3} ms, p99 {p99:.3} ms", spread(&took).median);
    }
    Ok(())
}

/// Nanoseconds of each.
fn one_by_one(stage: &mut Stage, changes: u32) -> Result<Vec<u64>> {
    let i = stage.cluster.services / 3;
    let all = stage.cluster.endpoints_of(i, stage.cluster.families.each()[0]);
    let start = Instant::now();
    let mut took = Vec::new();
    // An even number: the service may be one that clients call next.
    while took.len() < 2 || (took.len() < changes as usize && start.elapsed() < BUDGET) {
        for endpoints in [&all[1..], &all] {
            interrupt::check()?;
            let start = Instant::now();
            stage.contestant.replace(i, endpoints)?;
            stage.contestant.settle()?;
            took.push(start.elapsed().as_nanos() as u64);
            sleep(PAUSE);
        }
    }
    Ok(took)
}
