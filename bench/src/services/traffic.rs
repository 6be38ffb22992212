//! What clients see. The contestants' clients take turns of a few operations each, so that whatever the machine does
//! meanwhile, it does to all of them.

use anyhow::{Context, Result};
use millrace_tests::interrupt;

use super::{stage::Stage, turns::Orders};
use crate::{
    probe::client::{
        Operation,
        orders::{Order, Series, Turn},
    },
    report::{Destination, Traffic},
    stats::{percentile, spread},
};

/// An operation, how many of it make a turn, and which part of the asked rounds it needs.
struct Plan {
    operation: Operation,
    turn: u32,
    part: u32,
}

const PLANS: [Plan; 5] = [
    Plan { operation: Operation::Connect, turn: 25, part: 1 },
    Plan { operation: Operation::Request, turn: 25, part: 1 },
    Plan { operation: Operation::Kept, turn: 25, part: 1 },
    Plan { operation: Operation::Datagram, turn: 25, part: 1 },
    // Four megabytes each.
    Plan { operation: Operation::Stream, turn: 2, part: 10 },
];

pub(super) fn measure(stages: &mut [Box<Stage>], runs: u32, rounds: u32) -> Result<()> {
    for plan in &PLANS {
        let runs = (0..runs).map(|_| run(stages, plan, rounds)).collect::<Result<Vec<_>>>()?;
        for (index, stage) in stages.iter_mut().enumerate() {
            let kind = stage.figures.kind;
            for destination in Destination::ALL {
                let traffic = figures(plan.operation, destination, index, &runs).with_context(|| kind.name())?;
                stage.figures.traffic.push(traffic);
            }
        }
    }
    Ok(())
}

/// Series by stage, then by destination's name.
fn run(stages: &mut [Box<Stage>], plan: &Plan, rounds: u32) -> Result<Vec<Turn>> {
    let rounds = (rounds / plan.part).max(1);
    let turn = plan.turn.min(rounds);
    let mut all = vec![Turn::new(); stages.len()];
    let mut orders = Orders::of(stages.len());
    for _ in 0..rounds.div_ceil(turn) {
        interrupt::check()?;
        for index in orders.next() {
            let (stage, all) = (&mut stages[index], &mut all[index]);
            let order = Order::Measure { operation: plan.operation, rounds: turn };
            let answer: Turn = stage
                .client()?
                .ask(order)
                .with_context(|| format!("{}, {:?}", stage.figures.kind.name(), plan.operation))?;
            for (label, series) in answer {
                all.entry(label).or_default().append(series);
            }
        }
    }
    Ok(all)
}

/// The stage of the direct path is the first.
fn figures(operation: Operation, destination: Destination, stage: usize, runs: &[Vec<Turn>]) -> Result<Traffic> {
    let series = |run: &[Turn], stage: usize, destination: Destination| -> Result<Series> {
        let turns = run.get(stage).and_then(|turns| turns.get(destination.name()));
        turns.cloned().with_context(|| format!("no samples of {}", destination.name()))
    };
    let of = |read: fn(&Series) -> f64| -> Result<(Vec<f64>, Vec<f64>)> {
        let pairs = runs.iter().map(|run| {
            let own = read(&series(run, stage, destination)?);
            let direct = read(&series(run, 0, destination)?);
            Ok((own, own / direct))
        });
        Ok(pairs.collect::<Result<Vec<_>>>()?.into_iter().unzip())
    };
    let (p50, p50_ratio) = of(|series| percentile(&series.nanoseconds, 50.0) as f64 / 1000.0)?;
    let (p99, p99_ratio) = of(|series| percentile(&series.nanoseconds, 99.0) as f64 / 1000.0)?;
    let (cpu, cpu_ratio) =
        of(|series| series.cpu_nanoseconds as f64 / 1000.0 / series.nanoseconds.len().max(1) as f64)?;
    let own = runs.iter().map(|run| {
        let p50 = |stage, to| -> Result<f64> { Ok(percentile(&series(run, stage, to)?.nanoseconds, 50.0) as f64) };
        let endpoint = p50(stage, Destination::Endpoint)? / p50(0, Destination::Endpoint)?;
        Ok(p50(stage, destination)? / p50(0, destination)? / endpoint)
    });
    Ok(Traffic {
        operation,
        destination,
        p50: spread(&p50),
        p99: spread(&p99),
        cpu: spread(&cpu),
        p50_ratio: spread(&p50_ratio),
        p99_ratio: spread(&p99_ratio),
        cpu_ratio: spread(&cpu_ratio),
        p50_own_ratio: spread(&own.collect::<Result<Vec<_>>>()?),
    })
}
