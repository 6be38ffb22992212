//! How many small datagrams arrive where they come without a pause, and what each takes of the processor. In turns, as all
//! that clients see.

use anyhow::{Context, Result};
use millrace_tests::interrupt;

use super::{stage::Stage, turns::Orders};
use crate::{
    probe::client::{
        flood::Flooded,
        orders::{Floods, Order},
    },
    report::{Destination, Flood},
    stats::spread,
};

/// Floods of each destination that make a turn: they take 5 ms each.
const TURN: u32 = 5;
/// Which part of the asked rounds they are.
const PART: u32 = 10;

pub(super) fn measure(stages: &mut [Box<Stage>], runs: u32, rounds: u32) -> Result<()> {
    let runs = (0..runs).map(|_| run(stages, rounds)).collect::<Result<Vec<_>>>()?;
    for (index, stage) in stages.iter_mut().enumerate() {
        let floods = Destination::ALL.into_iter().map(|destination| figures(destination, index, &runs));
        stage.figures.floods = floods.collect::<Result<_>>().with_context(|| stage.figures.kind.name())?;
    }
    Ok(())
}

/// By stage, then by destination's name.
fn run(stages: &mut [Box<Stage>], rounds: u32) -> Result<Vec<Floods>> {
    let rounds = (rounds / PART).max(1);
    let turn = TURN.min(rounds);
    let mut all = vec![Floods::new(); stages.len()];
    let mut orders = Orders::of(stages.len());
    for _ in 0..rounds.div_ceil(turn) {
        for index in orders.next() {
            interrupt::check()?;
            let (stage, all) = (&mut stages[index], &mut all[index]);
            let answer: Floods = stage
                .client()?
                .ask(Order::Flood { rounds: turn })
                .with_context(|| format!("{}, a flood", stage.figures.kind.name()))?;
            for (label, flooded) in answer {
                all.entry(label).or_default().append(flooded);
            }
        }
    }
    Ok(all)
}

/// The stage of the direct path is the first.
fn figures(destination: Destination, stage: usize, runs: &[Vec<Floods>]) -> Result<Flood> {
    let of = |read: fn(&Flooded) -> f64| -> Result<(Vec<f64>, Vec<f64>)> {
        let pairs = runs.iter().map(|run| {
            let flooded = |stage: usize| {
                let flooded = run.get(stage).and_then(|floods| floods.get(destination.name()));
                flooded.with_context(|| format!("no flood of {}", destination.name()))
            };
            let own = read(flooded(stage)?);
            Ok((own, own / read(flooded(0)?)))
        });
        Ok(pairs.collect::<Result<Vec<_>>>()?.into_iter().unzip())
    };
    let (per_second, per_second_ratio) = of(|flooded| spread(&flooded.per_second).median)?;
    let (cpu, cpu_ratio) = of(|flooded| flooded.cpu_nanoseconds as f64 / flooded.arrived as f64)?;
    let (lost, _) = of(|flooded| 1.0 - flooded.arrived as f64 / flooded.sent as f64)?;
    Ok(Flood {
        destination,
        per_second: spread(&per_second),
        cpu: spread(&cpu),
        lost: spread(&lost),
        per_second_ratio: spread(&per_second_ratio),
        cpu_ratio: spread(&cpu_ratio),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_arrive_is_lost_and_makes_the_rest_dearer() {
        let flooded = |sent, arrived| {
            let per_second = vec![1.0, 1000.0 * arrived as f64, 2000.0 * arrived as f64];
            Flooded { sent, arrived, per_second, cpu_nanoseconds: 800_000 }
        };
        let floods = |flooded| Floods::from([(Destination::Endpoint.name().to_owned(), flooded)]);
        let runs = [vec![floods(flooded(1000, 1000)), floods(flooded(1000, 500))]];
        let flood = figures(Destination::Endpoint, 1, &runs).expect("a flood of each");
        let medians = [flood.per_second, flood.cpu, flood.lost, flood.per_second_ratio, flood.cpu_ratio];
        assert_eq!(medians.map(|figure| figure.median), [500_000.0, 1600.0, 0.5, 0.5, 2.0]);
        assert!(figures(Destination::Endpoint, 2, &runs).is_err(), "a stage without a flood");
    }
}
