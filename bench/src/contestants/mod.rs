//! Who is compared: one way to proxy services, set up on a node of its own. What is set up goes with the node.

mod direct;
mod kernel_memory;
mod millrace;
mod rival;

use std::{net::IpAddr, path::PathBuf, rc::Rc, time::Duration};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use self::millrace::{Millrace, XDP};
use crate::{
    cluster::{Clients, Cluster},
    rivals::{Backend, Part},
    topology::Topology,
};

/// One way to proxy services, in the kernel of one node.
pub trait Contestant {
    /// What it and its tools say of themselves; `None` where there is nothing to say.
    ///
    /// # Errors
    /// They are not installed.
    fn version(&self) -> Result<Option<String>>;

    /// Makes all services of the cluster reachable on a node that has none.
    ///
    /// # Errors
    /// What the tools say; [`crate::rivals::Error::TooSlow`] where it was given up.
    fn program(&mut self) -> Result<Programmed>;

    /// Gives service `i` other endpoints, in the first of the families. They are in force after [`Contestant::settle`].
    ///
    /// # Errors
    /// What the tools say.
    fn replace(&mut self, i: u32, endpoints: &[IpAddr]) -> Result<()>;

    /// Waits until the last replacement is in force.
    ///
    /// # Errors
    /// It does not come into force.
    fn settle(&mut self) -> Result<()>;

    /// Takes everything out of the kernel that [`Contestant::program`] put there.
    ///
    /// # Errors
    /// What the tools say.
    fn clear(&mut self) -> Result<()>;

    /// # Errors
    /// What the kernel says.
    fn memory(&self) -> Result<Memory>;

    /// After clients were served.
    ///
    /// # Errors
    /// They were served another way than the one that is measured.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// How long it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programmed {
    /// Deciding and writing: what a proxy that knows the services does until they are in the kernel.
    pub took: Duration,
    /// The whole start of an agent: process, lists from the API server, parsing and all. `None`: there is no agent.
    pub start: Option<Duration>,
    /// Where the time went, as far as it went several ways.
    pub parts: Vec<Part>,
}

/// MiB. `None`: not known here, or there is no such thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Rules, sets, maps and programs.
    pub kernel: Option<f64>,
    /// Of it, programs. A version that did not count them has none.
    pub programs: Option<f64>,
    /// Resident memory of the agent.
    pub agent: Option<f64>,
    /// The same without pages that it shares with the maps.
    pub agent_anonymous: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// No proxy at all: clients call the endpoints.
    Direct,
    /// millrace: pods' connections translated in connect(), those of clients outside on tc, at the uplink.
    Millrace,
    /// millrace with `--socket-lb host-only`: pods are translated per packet, on their veths.
    MillraceTc,
    /// millrace with `--host-routing off`: packets between pods of one node take the way through its stack.
    MillraceStack,
    /// millrace with `--xdp generic`, for clients outside whose endpoints are elsewhere.
    MillraceXdpGeneric,
    /// The same with `--xdp native`.
    MillraceXdpNative,
    IptablesLegacy,
    IptablesNft,
    Nftables,
    Ipvs,
}

impl Kind {
    /// The baseline first.
    pub const ALL: [Self; 10] = [
        Self::Direct,
        Self::Millrace,
        Self::MillraceTc,
        Self::MillraceStack,
        Self::MillraceXdpGeneric,
        Self::MillraceXdpNative,
        Self::IptablesLegacy,
        Self::IptablesNft,
        Self::Nftables,
        Self::Ipvs,
    ];

    /// As reports name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Millrace => "millrace",
            Self::MillraceTc => "millrace, tc",
            Self::MillraceStack => "millrace, stack",
            Self::MillraceXdpGeneric => "millrace, XDP generic",
            Self::MillraceXdpNative => "millrace, XDP native",
            Self::IptablesLegacy => "iptables, legacy",
            Self::IptablesNft => "iptables, nft",
            Self::Nftables => "nftables",
            Self::Ipvs => "IPVS",
        }
    }

    #[must_use]
    pub const fn is_millrace(self) -> bool {
        matches!(
            self,
            Self::Millrace
                | Self::MillraceTc
                | Self::MillraceStack
                | Self::MillraceXdpGeneric
                | Self::MillraceXdpNative
        )
    }

    /// Whether it is a way of its own for these clients' packets.
    #[must_use]
    pub const fn serves(self, clients: Clients) -> bool {
        self.why_not(clients).is_none()
    }

    /// Why it is none, and what to ask for instead.
    #[must_use]
    pub const fn why_not(self, clients: Clients) -> Option<&'static str> {
        match (self, clients) {
            (Self::MillraceTc, Clients::Outside | Clients::Through) => Some(
                "it differs in what becomes of pods' sockets, and clients outside have none on the node \
                 (`--clients pods` measures it)",
            ),
            (Self::MillraceStack, Clients::Outside | Clients::Through) => {
                Some("the ways past a node's stack are those from pod to pod (`--clients pods` measures it)")
            }
            (Self::MillraceXdpGeneric | Self::MillraceXdpNative, Clients::Pods) => {
                Some("what pods send does not come by an uplink, where XDP is (`--clients through` measures it)")
            }
            (Self::MillraceXdpGeneric | Self::MillraceXdpNative, Clients::Outside) => {
                Some("XDP leaves endpoints of its own node to tc (`--clients through` measures it)")
            }
            _ => None,
        }
    }

    #[must_use]
    pub const fn is_rival(self) -> bool {
        !self.is_millrace() && !matches!(self, Self::Direct)
    }
}

/// What bounds and equips the rivals' tools.
#[derive(Clone, Debug)]
pub struct Tooling {
    /// A command that takes longer is ended.
    pub limit: Duration,
    /// Where another Debian release's iptables and nft lie unpacked; `None`: those that are installed.
    pub release: Option<PathBuf>,
}

/// Sets one up on its node: programs nothing yet. `None`: this kernel cannot do it.
///
/// # Errors
/// Tools or privileges are missing.
pub fn create(
    kind: Kind,
    topology: &Rc<Topology>,
    cluster: Cluster,
    tooling: &Tooling,
) -> Result<Option<Box<dyn Contestant>>> {
    let millrace = |arguments| -> Result<Option<Box<dyn Contestant>>> {
        Ok(Some(Box::new(Millrace::new(Rc::clone(topology), cluster, arguments)?)))
    };
    Ok(match kind {
        Kind::Direct => Some(Box::new(direct::Direct)),
        Kind::Millrace => millrace(&[])?,
        Kind::MillraceTc => millrace(&["--socket-lb", "host-only"])?,
        Kind::MillraceStack => millrace(&["--host-routing", "off"])?,
        Kind::MillraceXdpGeneric => millrace(&[XDP, "generic"])?,
        Kind::MillraceXdpNative => millrace(&[XDP, "native"])?,
        Kind::IptablesLegacy => rival::iptables(Backend::Legacy, topology, cluster, tooling)?,
        Kind::IptablesNft => rival::iptables(Backend::Nft, topology, cluster, tooling)?,
        Kind::Nftables => rival::nftables(topology, cluster, tooling)?,
        Kind::Ipvs => rival::ipvs(topology, cluster, tooling)?,
    })
}
