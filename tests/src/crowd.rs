//! Clients that never stop: new connections and datagrams without pause, and sockets that were there before anything
//! happened. None may notice a change that does not mean it.

use std::{collections::BTreeSet, env, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    client::{Load, Stream},
    place::Place,
    probe::{Manner, Protocol},
};

/// Emulated machines run this too.
const PATIENCE: Duration = Duration::from_secs(20);

/// How such a client talks.
#[must_use]
pub fn manner(protocol: Protocol) -> Manner {
    // Every few milliseconds; an emulated machine would do nothing else.
    let every = if env::var_os("MILLRACE_MACHINE").is_some() { 40 } else { 4 };
    Manner { every, timeout: 5000, ..Manner::of(protocol) }
}

/// New sockets without pause, of TCP and of UDP.
#[derive(Debug)]
pub struct Crowd {
    loads: Vec<(Protocol, Load)>,
    to: Vec<SocketAddr>,
}

impl Crowd {
    /// Clients at one place, to all these addresses.
    ///
    /// # Errors
    /// If the probe cannot run.
    pub fn start(place: &Place, to: &[SocketAddr]) -> Result<Self> {
        let start = |protocol| Ok((protocol, Load::start(place, to, 1, &manner(protocol))?));
        let loads = [Protocol::Tcp, Protocol::Udp].map(start).into_iter().collect::<Result<_>>()?;
        Ok(Self { loads, to: to.into() })
    }

    /// Ends it.
    ///
    /// # Errors
    /// If one was not answered; says which.
    pub fn nothing_lost(self) -> Result<()> {
        for (protocol, load) in self.loads {
            let report = load.stop()?;
            println!("{protocol:?}: {} answered, {} failed", report.total(), report.failed);
            ensure!(report.failed == 0, "{protocol:?}: {:#?}", report.failures);
            ensure!(report.answered.len() == self.to.len(), "{protocol:?}: not all were asked: {report:?}");
        }
        Ok(())
    }
}

/// A socket that goes on talking.
#[derive(Debug)]
pub struct Held {
    to: SocketAddr,
    protocol: Protocol,
    stream: Stream,
}

impl Held {
    /// It has been answered when this returns.
    ///
    /// # Errors
    /// If it is not.
    pub fn start(place: &Place, to: SocketAddr, protocol: Protocol) -> Result<Self> {
        let mut stream = Stream::start(place, to, &Manner { every: 10, ..manner(protocol) })?;
        let answered = stream.wait_for(PATIENCE, |outcome| outcome.server().is_some());
        answered.with_context(|| format!("{protocol:?} to {to}"))?;
        Ok(Self { to, protocol, stream })
    }

    /// Ends it. A connection had one server from the beginning; datagrams may have moved.
    ///
    /// # Errors
    /// If it was not answered at some time; says what became of it.
    pub fn unbroken(self) -> Result<()> {
        let (to, protocol) = (self.to, self.protocol);
        let lines = self.stream.stop()?;
        let servers: BTreeSet<_> = lines.iter().map(|line| line.outcome.server()).collect();
        ensure!(!servers.contains(&None), "{protocol:?} to {to} did not survive: {lines:?}");
        ensure!(protocol != Protocol::Tcp || servers.len() == 1, "{to} became another server: {lines:?}");
        Ok(())
    }
}
