//! Connections while endpoints are replaced all the time. One contestant at a time: the load takes a whole processor.
//!
//! Each replacement takes the oldest endpoint out and puts a new address in; `judge` then finds who was connected to an
//! endpoint that was not there any more.

mod judge;

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use anyhow::{Context, Result};
use millrace_agent::lb::Family;
use millrace_tests::{address::in_family, interrupt};

use super::stage::Stage;
use crate::{
    cluster::{ENDPOINTS, Position, answering},
    contestants::Kind,
    probe::client::{
        load::{Connections, now},
        orders::Order,
    },
    report::Churn,
};
use judge::{Replacement, judge};

pub(super) const PER_SECOND: u64 = 100;
/// An address comes back after two seconds and a half: what a proxy that is later than that does is not noticed.
const ADDRESSES: u32 = 250;

pub(super) fn measure(stages: &mut [Box<Stage>], seconds: u64) -> Result<()> {
    for stage in stages.iter_mut().filter(|stage| stage.figures.kind != Kind::Direct) {
        let churn = under_load(stage, seconds).with_context(|| stage.figures.kind.name())?;
        eprintln!("bench:   {}: {churn:?}", stage.figures.kind.name());
        stage.figures.churn = Some(churn);
    }
    Ok(())
}

fn under_load(stage: &mut Stage, seconds: u64) -> Result<Churn> {
    // The client's load goes to the first of its destinations.
    let service = stage.cluster.at(Position::First);
    let family = stage.cluster.families.each()[0];
    let mut spare: VecDeque<_> =
        answering(ADDRESSES).into_iter().map(|v4| in_family(v4, family == Family::V6)).collect();
    let mut serving: VecDeque<IpAddr> = spare.drain(..ENDPOINTS as usize).collect();
    let mut replacements = Vec::new();
    stage.client()?.tell(Order::Load { milliseconds: seconds * 1000 })?;
    let (start, period) = (now(), 1_000_000_000 / PER_SECOND);
    let mut applied = 0;
    while (replacements.len() as u64) < seconds * PER_SECOND {
        interrupt::check()?;
        let mut due = start + (replacements.len() as u64 + 1) * period;
        std::thread::sleep(Duration::from_nanos(due.saturating_sub(now())));
        // A rival that was too busy for some of them is told of the newest state only, as kube-proxy would be.
        while due <= now() {
            let (Some(gone), Some(new)) = (serving.pop_front(), spare.pop_front()) else { break };
            spare.push_back(gone);
            serving.push_back(new);
            replacements.push(Replacement { at: due, gone, new });
            due += period;
        }
        stage.contestant.replace(service, serving.make_contiguous())?;
        applied += 1;
    }
    let connections: Connections = stage.client()?.hear()?;
    let (told, seconds) = (replacements.len(), (now() - start) as f64 / 1e9);
    let first = answering(ENDPOINTS).into_iter().map(|v4| in_family(v4, family == Family::V6)).collect();
    stage.contestant.replace(service, &stage.cluster.endpoints_of(service, family))?;
    Ok(Churn {
        replaced_per_second: told as f64 / seconds,
        told_per_second: f64::from(applied) / seconds,
        ..judge(first, &replacements, &connections)
    })
}
