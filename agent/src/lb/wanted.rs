//! What one service port, in one family, should look like in the maps: without indices, ids or blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
};

use millrace_common::{frontend::FrontendKind, service::Attributes};

use crate::model::{Protocol, ServiceKey};

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
}

/// Who owns a service record: it survives restarts in the map NAMES, as `namespace/name:port/TCP/v4`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName {
    pub service: ServiceKey,
    /// The port's name, or its number where it has none.
    pub port: Box<str>,
    pub protocol: Protocol,
    pub family: Family,
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::V4 => "v4",
            Family::V6 => "v6",
        };
        write!(f, "{}:{}/{}/{family}", self.service, self.port, self.protocol.name())
    }
}

/// An address and port that clients name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    pub address: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
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
    /// Never empty.
    Endpoints(BTreeSet<SocketAddr>),
}

/// The wanted state of one service record and its frontends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedPort {
    pub name: PortName,
    pub frontends: BTreeMap<Frontend, FrontendKind>,
    pub cluster: Set,
    pub local: Set,
    /// Every endpoint that still serves, in a set or not: flows to it are left where they are.
    pub serving: BTreeSet<SocketAddr>,
    pub attributes: Attributes,
}
