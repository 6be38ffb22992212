//! A rival that writes to several parts of the kernel: how long each of them took.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Where the time went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// What to write, the tools' input, and their start.
    Decision,
    /// Virtual servers and their endpoints, over netlink.
    Netlink,
    IpSets,
    /// Of the device that makes services' addresses the node's own.
    Addresses,
    Rules,
}

impl Way {
    /// As reports name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decision => "deciding",
            Self::Netlink => "servers, over netlink",
            Self::IpSets => "IP sets",
            Self::Addresses => "addresses of kube-ipvs0",
            Self::Rules => "iptables rules",
        }
    }
}

/// One way, and the time of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub way: Way,
    pub took: Duration,
}

/// Splits a stretch of time: what passes belongs to the way that is named at its end.
#[derive(Debug)]
pub(super) struct Laps {
    since: Instant,
    parts: Vec<Part>,
}

impl Laps {
    pub(super) fn start() -> Self {
        Self { since: Instant::now(), parts: Vec::new() }
    }

    pub(super) fn end(&mut self, way: Way) {
        let now = Instant::now();
        let took = now.saturating_duration_since(std::mem::replace(&mut self.since, now));
        self.add(way, took);
    }

    fn add(&mut self, way: Way, took: Duration) {
        match self.parts.iter_mut().find(|part| part.way == way) {
            Some(part) => part.took += took,
            None => self.parts.push(Part { way, took }),
        }
    }

    /// Of what passed since the last end, `took` belongs to `way`, and what is left to `rest`.
    pub(super) fn split(&mut self, way: Way, took: Duration, rest: Way) {
        self.since += took;
        self.add(way, took);
        self.end(rest);
    }

    pub(super) fn parts(mut self) -> Vec<Part> {
        self.parts.sort_by_key(|part| part.way);
        self.parts
    }
}
