//! What one service port, in one family, should look like in the maps: without indices, ids or blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use millrace_common::{frontend::FrontendKind, service::Attributes};

use super::PortName;
use crate::model::{Algorithm, Protocol};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// As it ends a record's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }
}

/// An address and port that clients name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    pub address: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
}

impl Frontend {
    #[must_use]
    pub const fn family(&self) -> Family {
        Family::of(self.address)
    }
}

impl fmt::Display for Frontend {
    /// `10.96.0.10:53/UDP`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.address, self.port), self.protocol.name())
    }
}

/// The endpoints for one traffic policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Set {
    /// The service never uses it.
    Unused,
    /// No endpoint anywhere: refuse at once.
    Reject,
    /// Endpoints exist, none that this policy may use: silence.
    Drop,
    /// Sorted, each once; never empty.
    Endpoints(Vec<SocketAddr>),
}

/// The wanted state of one service record and its frontends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedPort {
    pub name: PortName,
    pub frontends: BTreeMap<Frontend, FrontendKind>,
    pub cluster: Set,
    pub local: Set,
    /// Every endpoint that still serves, in a set or not: flows to it are left where they are. Sorted, each once.
    pub serving: Vec<SocketAddr>,
    /// How a flow's endpoint is chosen among those of its set.
    pub algorithm: Algorithm,
    pub attributes: Attributes,
    /// Clients that the load balancer's VIPs let in; all where there is none.
    pub source_ranges: BTreeSet<IpNet>,
}
