//! What the pods of the tests do: servers that say who they are and whom they see, clients that say who answered.
//! The binary `millrace-probe` runs it inside a pod; a test reads what it prints (JSON, one value a line).

mod attempt;
mod load;
mod serve;
mod stream;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

pub use attempt::{attempt, attempts};
pub use load::load;
pub use serve::serve;
pub use stream::stream;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
pub enum Protocol {
    Tcp,
    /// A socket that is connected, as a resolver's is.
    Udp,
    /// `sendto` and `recvfrom` on a socket that is not.
    UdpUnconnected,
    /// The same, and all attempts are made on one socket, as by a resolver with several servers.
    UdpOneSocket,
}

/// What a server sends to whoever talks to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The server's name.
    pub name: String,
    /// The client as the server sees it.
    pub client: SocketAddr,
}

/// One connection, or one exchange of datagrams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub to: SocketAddr,
    pub outcome: Outcome,
    pub milliseconds: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Answered {
        greeting: Greeting,
        /// Whom the client believes to talk to: `getpeername`, or the source that `recvfrom` reports.
        peer: SocketAddr,
    },
    /// ECONNREFUSED
    Refused,
    /// No answer in time.
    Silence,
    /// Any other error, in words.
    Failed(String),
}

impl Outcome {
    /// The server that answered.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::Answered { greeting, .. } => Some(&greeting.name),
            _ => None,
        }
    }
}

/// How to talk.
#[derive(Clone, Debug, Serialize, Deserialize, clap::Args)]
pub struct Manner {
    #[arg(long, value_enum, default_value = "tcp")]
    pub protocol: Protocol,
    /// How long to wait for a connection and for an answer, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    pub timeout: u64,
    /// Pause between attempts, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pub every: u64,
}

impl Manner {
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout)
    }

    #[must_use]
    pub const fn every(&self) -> Duration {
        Duration::from_millis(self.every)
    }
}

/// A line of `stream`: printed when the outcome changes and at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamLine {
    /// Milliseconds since the start.
    pub at: f64,
    /// Exchanges so far.
    pub exchanges: u64,
    pub outcome: Outcome,
}

/// The last line of `load`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Answers by target, then by server.
    pub answered: BTreeMap<SocketAddr, BTreeMap<String, u64>>,
    pub failed: u64,
    /// The first failures, for a person.
    pub failures: Vec<Attempt>,
}

impl LoadReport {
    /// Answers in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.answered.values().flat_map(BTreeMap::values).sum()
    }
}
