//! One write to the maps. The order of a plan is part of the contract: backends and slots first, then the record's
//! word, then new frontends; deletes the other way round.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use millrace_common::{backend::BackendState, frontend::FrontendKind, service::ServiceName};

use crate::lb::{Family, Frontend};

/// Which word of a service record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    Cluster,
    Local,
    Attributes,
}

/// One slot, as plain values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotValue {
    pub address: SocketAddr,
    pub backend: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// BACKENDS\[id\] = state.
    StoreBackend {
        id: u32,
        state: BackendState,
    },
    /// A fresh block of slots that no record points to yet, and the lookup table behind it.
    WriteBlock {
        family: Family,
        base: u32,
        generation: u16,
        owner: u32,
        slots: Vec<SlotValue>,
        /// Offsets into the block; empty: none.
        table: Vec<u16>,
    },
    /// NAMES\[index\] = name (zeroed: the record is free).
    StoreName {
        index: u32,
        name: Box<ServiceName>,
    },
    /// One 8-byte store, with release order: flips the service.
    StoreWord {
        index: u32,
        word: Word,
        value: u64,
    },
    /// Every program that could have seen what was unlinked before has ended when this returns. The plan has it only
    /// where an insert would otherwise reuse a deleted element under a reader.
    Grace,
    InsertFrontend {
        frontend: Frontend,
        kind: FrontendKind,
        index: u32,
    },
    DeleteFrontend {
        frontend: Frontend,
    },
    /// The mark of an address that services own (port 0).
    InsertOwned {
        address: IpAddr,
    },
    DeleteOwned {
        address: IpAddr,
    },
    /// A client that the guarded VIPs of a record let in.
    InsertRange {
        index: u32,
        range: IpNet,
    },
    DeleteRange {
        index: u32,
        range: IpNet,
    },
    InsertCidr {
        cidr: IpNet,
    },
    DeleteCidr {
        cidr: IpNet,
    },
}
