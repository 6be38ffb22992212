//! The contents of the maps as plain values: read at start-up, shown by the command line, compared by the tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use millrace_common::{backend::BackendState, frontend::FrontendKind, service::ServiceRecord};

use super::Occupancy;
use crate::lb::{Family, Frontend};

/// Entries that the maps have room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Service records (SERVICES, NAMES).
    pub services: u32,
    /// Frontends in each family, marks of owned addresses included.
    pub frontends: u32,
    /// Backend ids (BACKENDS).
    pub backends: u32,
    /// Slots in each family.
    pub slots: u32,
    /// Source ranges in each family, counted once per record.
    pub source_ranges: u32,
}

/// How full the maps are. Of pairs, the first is IPv4's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub sizes: Sizes,
    pub services: u32,
    pub backends: u32,
    pub frontends: [u32; 2],
    pub slots: [Occupancy; 2],
    pub source_ranges: [u32; 2],
    pub cidrs: [u32; 2],
    /// Services with a port that the maps have no room for.
    pub refused: usize,
}

/// A slot as it lies in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotSlot {
    pub address: SocketAddr,
    pub backend: u32,
    pub generation: u16,
    pub owner: u32,
}

/// Only what is in use: records with a name, slots that a record points to, backends whose state is not zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub frontends: BTreeMap<Frontend, (FrontendKind, u32)>,
    pub owned: BTreeSet<IpAddr>,
    pub records: BTreeMap<u32, ServiceRecord>,
    /// By record index, as stored: `namespace/name:port/TCP/v4`.
    pub names: BTreeMap<u32, String>,
    pub slots: BTreeMap<(Family, u32), SnapshotSlot>,
    /// Lookup tables, by the base of the block that they lie behind.
    pub tables: BTreeMap<(Family, u32), Vec<u16>>,
    pub backends: BTreeMap<u32, BackendState>,
    pub cidrs: BTreeSet<IpNet>,
    /// Source ranges by record index.
    pub ranges: BTreeMap<u32, BTreeSet<IpNet>>,
}
