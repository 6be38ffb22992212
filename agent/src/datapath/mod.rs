//! The kernel's side: loading, pinning, taking over and attaching the programs, and writing the maps. The only
//! module that sees aya.

mod carry_out;
pub mod cgroup;
mod cleanup;
pub mod devices;
mod driver;
mod error;
mod fate;
mod forgetful;
pub mod grace;
pub mod host;
mod host_routing;
mod inspect;
mod left_by_devices;
mod load;
mod marks;
mod memory;
mod mounts;
pub mod netlink;
mod netns;
mod object;
mod own_addresses;
mod per_packet;
mod pins;
mod pod_cgroups;
mod probe;
mod qdisc;
pub mod reserved_ports;
mod resize;
mod sizes;
mod snapshot;
mod sweep;
mod syscall;
mod tables;
mod tc;
mod ways;
mod words;
mod xdp;

pub use carry_out::{Outcome, carry_out};
pub use cleanup::cleanup;
pub use error::SetupError;
pub use forgetful::{Filled, Forgetful};
pub use host_routing::{HostRouting, HostRoutingMode, LOOK as LOOK_FOR_FIREWALLS};
pub use inspect::{Occupancy, Status, TrackedFlow, flows, status, verdicts};
pub use load::{Constants, Loaded, SnatPorts, load};
pub use memory::{Fault, MemoryTables};
pub use object::object;
pub use own_addresses::OwnAddressTables;
pub use per_packet::PacketTables;
pub use pins::{Pins, PinsLock};
pub use pod_cgroups::PodCgroupTree;
pub use probe::{Feature, Features, features, probe};
pub use sizes::Limits;
pub use snapshot::snapshot;
pub use sweep::sweep;
pub use tables::KernelTables;
pub use tc::{Attacher, TcMode, has_tcx};
pub use ways::RouteChanges;
pub use xdp::{XdpAttacher, XdpMode};

use crate::diff::Op;

/// What `app` needs of the maps. The kernel's maps implement it; so do the tests' maps in memory, with and without
/// failures.
pub trait Tables {
    /// Carries out one operation.
    ///
    /// # Errors
    /// The map's name, the operation and the kernel's error. The caller keeps the service dirty and plans anew.
    fn execute(&mut self, op: &Op) -> Result<(), TableError>;
}

/// A map operation that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("map {map}: {operation} failed: {source}")]
pub struct TableError {
    pub map: &'static str,
    pub operation: String,
    #[source]
    pub source: std::io::Error,
}
