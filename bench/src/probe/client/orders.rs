//! A client that stays in its pod and is told what to measure next, a line of JSON for each order and each answer: the
//! runs of several pods take turns at a grain of milliseconds.

use std::{
    collections::BTreeMap,
    io::{BufRead, Write},
    net::SocketAddr,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    time::{ClockId, clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use super::{
    Operation, Target,
    flood::{self, Flooded},
    load,
    operation::Sockets,
};

/// Operations at the beginning of a turn that do not count: another pod's client has just used the processor's caches.
const WARM_UP: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// So many operations of each target, one target after the other. Answer: [`Turn`].
    Measure { operation: Operation, rounds: u32 },
    /// So many floods of each target, one target after the other. Answer: [`Floods`].
    Flood { rounds: u32 },
    /// Connections to the first target, one after the other, for so long. Answer: [`load::Connections`].
    Load { milliseconds: u64 },
}

/// By target's label.
pub type Turn = BTreeMap<String, Series>;

/// By target's label.
pub type Floods = BTreeMap<String, Flooded>;

/// One target's part of a turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// Of each operation.
    pub nanoseconds: Vec<u64>,
    /// Processor time of client and server for all these operations. What the kernel does for their packets counts,
    /// for it does it in their context.
    pub cpu_nanoseconds: u64,
}

impl Series {
    pub fn append(&mut self, other: Self) {
        self.nanoseconds.extend(other.nanoseconds);
        self.cpu_nanoseconds += other.cpu_nanoseconds;
    }
}

/// Carries out the orders of `input` until it ends. Every operation must succeed: a failed one ends the client with the
/// target's name.
pub fn obey(targets: &[Target], server: Pid, input: impl BufRead, mut output: impl Write) -> Result<()> {
    let clocks = [ClockId::CLOCK_PROCESS_CPUTIME_ID, clock_getcpuclockid(server).context("the server's clock")?];
    let mut sockets: Vec<_> = targets.iter().map(|target| Sockets::of(&target.addresses)).collect();
    for line in input.lines() {
        let order = serde_json::from_str(&line.context("the next order")?).context("an order")?;
        let answer = match order {
            Order::Measure { operation, rounds } => {
                let mut turn = Turn::new();
                for (target, sockets) in targets.iter().zip(&mut sockets) {
                    let series = measure(sockets, operation, rounds, clocks);
                    turn.insert(target.label.clone(), series.with_context(|| target.label.clone())?);
                }
                serde_json::to_string(&turn)?
            }
            Order::Flood { rounds } => {
                let flooded = targets.iter().map(|target| {
                    let flooded = flood::floods(first(target)?, rounds, || used(clocks));
                    Ok((target.label.clone(), flooded.with_context(|| target.label.clone())?))
                });
                serde_json::to_string(&flooded.collect::<Result<Floods>>()?)?
            }
            Order::Load { milliseconds } => {
                let address = first(targets.first().context("no target")?)?;
                serde_json::to_string(&load::connections(address, Duration::from_millis(milliseconds)))?
            }
        };
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

/// Where what is one flow goes.
fn first(target: &Target) -> Result<SocketAddr> {
    target.addresses.first().copied().with_context(|| format!("{} has no address", target.label))
}

fn measure(sockets: &mut Sockets<'_>, operation: Operation, rounds: u32, clocks: [ClockId; 2]) -> Result<Series> {
    for _ in 0..WARM_UP.min(rounds) {
        sockets.perform(operation)?;
    }
    let mut nanoseconds = Vec::with_capacity(rounds as usize);
    let before = used(clocks)?;
    for _ in 0..rounds {
        nanoseconds.push(sockets.perform(operation)?.as_nanos() as u64);
    }
    Ok(Series { nanoseconds, cpu_nanoseconds: used(clocks)?.saturating_sub(before).as_nanos() as u64 })
}

/// Processor time so far.
fn used(clocks: [ClockId; 2]) -> Result<Duration> {
    let read = |clock| clock_gettime(clock).map(Duration::from).context("read a processor clock");
    Ok(read(clocks[0])? + read(clocks[1])?)
}
