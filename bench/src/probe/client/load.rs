//! Connections one after the other, each remembered: when it began and which endpoint answered. What became of it is
//! judged by whoever knows which endpoints there were at that time.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::operation::end_at_once;
use crate::probe::server::WHO;

/// A connection that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// In the order in which they began.
pub type Connections = Vec<Connection>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Since the machine's start, as every process sees it (CLOCK_MONOTONIC).
    pub began_nanoseconds: u64,
    /// Who answered, or why nobody did.
    pub outcome: Result<IpAddr, String>,
}

/// CLOCK_MONOTONIC in nanoseconds: the only clock that two processes can compare.
pub fn now() -> u64 {
    // The clock exists on every Linux.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_nanos() as u64)
}

pub(super) fn connections(to: SocketAddr, time: Duration) -> Connections {
    let end = now() + time.as_nanos() as u64;
    let mut connections = Connections::new();
    loop {
        let began_nanoseconds = now();
        if began_nanoseconds >= end {
            return connections;
        }
        let outcome = who(to).map_err(|error| format!("{error:#}"));
        connections.push(Connection { began_nanoseconds, outcome });
    }
}

fn who(to: SocketAddr) -> Result<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE)).context("set a read timeout")?;
    stream.write_all(&[WHO]).context("ask")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("no answer")?;
    end_at_once(&stream)?;
    answer.parse().with_context(|| format!("{answer:?} is no address"))
}
