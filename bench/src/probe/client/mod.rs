//! Measures several targets in turn: whatever the machine does meanwhile, it does to all of them.
//!
//! `operation` is what one sample is made of, `orders` the client that is told what to measure next, `load` connections
//! without end, each remembered, `flood` datagrams without a pause, counted where they arrive.

pub mod flood;
pub mod load;
mod operation;
pub mod orders;

use std::{collections::BTreeMap, fmt, net::SocketAddr, str::FromStr};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub use operation::{Operation, STREAMED};

use operation::Sockets;

/// Operations of each target before the first that counts: caches, neighbours, sockets' slabs.
const WARM_UP: u32 = 50;

/// What one series of samples is about: `LABEL=address:port[,address:port...]`. Several addresses are taken in turn, as
/// a service spreads its clients over its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub label: String,
    pub addresses: Vec<SocketAddr>,
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (label, addresses) = text.split_once('=').context("write a target as LABEL=address:port")?;
        let addresses = addresses
            .split(',')
            .map(|address| address.parse().with_context(|| format!("{address} is no address:port")))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { label: label.to_owned(), addresses })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        write!(f, "{}={}", self.label, addresses.join(","))
    }
}

/// Nanoseconds of each operation, by target's label, in the order they were made.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Samples(pub BTreeMap<String, Vec<u64>>);

/// One operation of each target at a time. Every operation must succeed: a failed one ends the run with the target's
/// name.
pub fn run(operation: Operation, targets: &[Target], rounds: u32) -> Result<Samples> {
    let mut samples = Samples::default();
    let mut sockets: Vec<_> = targets.iter().map(|target| Sockets::of(&target.addresses)).collect();
    for round in 0..WARM_UP + rounds {
        for (target, sockets) in targets.iter().zip(&mut sockets) {
            let took = sockets.perform(operation).with_context(|| target.label.clone())?;
            if round >= WARM_UP {
                samples.0.entry(target.label.clone()).or_default().push(took.as_nanos() as u64);
            }
        }
    }
    Ok(samples)
}
