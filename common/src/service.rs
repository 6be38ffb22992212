//! A service record: a few aligned words, each flipped by one 8-byte store.

use core::mem::offset_of;

use crate::{frontend::FrontendKind, maglev};

/// Value of SERVICES. One record per service port and address family.
///
/// A program reads a word once, as a volatile u64, and never looks at it again. The agent writes the slots of a new
/// block first, then stores the word (release), then frees the old block after a grace period.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ServiceRecord {
    /// A [`SetWord`]: endpoints for traffic under policy Cluster, as this node sees them.
    pub cluster: u64,
    /// A [`SetWord`]: endpoints for traffic under policy Local.
    pub local: u64,
    /// An [`Attributes`] word.
    pub attributes: u64,
    pub _reserved: u64,
}

/// `base:31 | table:1 | count:20 | generation:12`, low bits first: a block of SLOTS, or a reason why there is none. With
/// `table`, a lookup table ([`crate::maglev`]) lies behind the block.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SetWord(pub u64);

/// With `count` 0, `base` says what becomes of the traffic, so that one store flips that too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NoEndpoints {
    /// The service never uses this set (a zeroed record): the packet is not millrace's.
    Unused,
    /// No endpoint anywhere: refuse at once.
    Reject,
    /// Endpoints exist, none that this policy may use: silence.
    Drop,
}

impl SetWord {
    /// Endpoints that one set can hold.
    pub const MAX_COUNT: u32 = (1 << 20) - 1;
    /// Generations wrap after this many.
    pub const GENERATIONS: u16 = 1 << 12;
    const TABLE: u64 = 1 << 31;
    pub const UNUSED: Self = Self(0);
    pub const REJECT: Self = Self(1);
    pub const DROP: Self = Self(2);

    /// `count` at most [`Self::MAX_COUNT`], `generation` below [`Self::GENERATIONS`]; more bits are cut off.
    #[must_use]
    pub const fn block(base: u32, count: u32, generation: u16) -> Self {
        Self(
            base as u64
                | ((count & Self::MAX_COUNT) as u64) << 32
                | ((generation & (Self::GENERATIONS - 1)) as u64) << 52,
        )
    }

    /// The same block, with a table behind it.
    #[must_use]
    pub const fn with_table(self) -> Self {
        Self(self.0 | Self::TABLE)
    }

    #[inline(always)]
    #[must_use]
    pub const fn has_table(self) -> bool {
        self.0 & Self::TABLE != 0
    }

    #[inline(always)]
    #[must_use]
    pub const fn base(self) -> u32 {
        (self.0 & !Self::TABLE) as u32
    }

    /// Slots that belong to it, those of its table included.
    #[must_use]
    pub const fn slots(self) -> u32 {
        self.count() + if self.has_table() { maglev::slots(self.count()) } else { 0 }
    }

    #[inline(always)]
    #[must_use]
    pub const fn count(self) -> u32 {
        (self.0 >> 32) as u32 & Self::MAX_COUNT
    }

    #[inline(always)]
    #[must_use]
    pub const fn generation(self) -> u16 {
        (self.0 >> 52) as u16
    }

    /// What to do when `count` is 0.
    #[inline(always)]
    #[must_use]
    pub const fn no_endpoints(self) -> NoEndpoints {
        match self.base() {
            1 => NoEndpoints::Reject,
            2 => NoEndpoints::Drop,
            _ => NoEndpoints::Unused,
        }
    }
}

/// `flags:16 | _:16 | affinity timeout in seconds:32`, low bits first.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Attributes(pub u64);

impl Attributes {
    /// `internalTrafficPolicy: Local`: the ClusterIP uses the local set.
    pub const INTERNAL_LOCAL: u64 = 1;
    /// `externalTrafficPolicy: Local`: traffic from outside uses the local set.
    pub const EXTERNAL_LOCAL: u64 = 1 << 1;
    /// `sessionAffinity: ClientIP`.
    pub const AFFINITY: u64 = 1 << 2;
    /// `loadBalancerSourceRanges` guard the load balancer's VIPs.
    pub const SOURCE_RANGES: u64 = 1 << 3;

    #[must_use]
    pub const fn new(flags: u64, affinity_seconds: u32) -> Self {
        Self(flags | (affinity_seconds as u64) << 32)
    }

    #[inline(always)]
    #[must_use]
    pub const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// Seconds that an idle client is remembered; 0 without affinity.
    #[inline(always)]
    #[must_use]
    pub const fn affinity_seconds(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Which set serves traffic that a pod or a process of this node sends to a frontend of this kind.
///
/// The ClusterIP obeys the internal policy. Every other frontend, used from the inside, is served by the cluster set
/// even under `externalTrafficPolicy: Local` (kube-proxy's short cut for local traffic): so a record holds the
/// cluster and the local set rather than an inside and an outside one, which could not say this when the internal
/// policy is Local too.
#[inline(always)]
#[must_use]
pub const fn inside_uses_local(kind: u8, attributes: Attributes) -> bool {
    kind == FrontendKind::ClusterIp as u8 && attributes.has(Attributes::INTERNAL_LOCAL)
}

/// Which set serves traffic that comes to the node from outside: each kind of frontend obeys its own policy.
#[inline(always)]
#[must_use]
pub const fn outside_uses_local(kind: u8, attributes: Attributes) -> bool {
    let policy =
        if kind == FrontendKind::ClusterIp as u8 { Attributes::INTERNAL_LOCAL } else { Attributes::EXTERNAL_LOCAL };
    attributes.has(policy)
}

/// True where a backend sees the address of a client from outside. Everywhere else it sees the node's: its answer must
/// come back this way, wherever the backend is.
#[inline(always)]
#[must_use]
pub const fn outside_keeps_source(kind: u8, attributes: Attributes) -> bool {
    kind != FrontendKind::ClusterIp as u8 && attributes.has(Attributes::EXTERNAL_LOCAL)
}

/// Key of SOURCE_RANGES, behind the length of its prefix (which counts the bits of `service`, too): the clients that a
/// guarded VIP of the service lets in.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SourceRange<A> {
    /// Index of the service record.
    pub service: u32,
    pub client: A,
}

impl<A> SourceRange<A> {
    /// Bits of `service`.
    pub const SERVICE_BITS: u32 = u32::BITS;
}

/// Bytes of a name in NAMES: `namespace/name:port/PROTOCOL/v4`, padded with zeros.
pub const NAME_BYTES: usize = 160;

/// Value of NAMES: who owns the record with this index. Only the agent and its command line read it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceName(pub [u8; NAME_BYTES]);

const _: () = assert!(size_of::<ServiceRecord>() == 32);
// The agent stores these words one by one (`agent/src/datapath/tables.rs`).
const _: () = assert!(offset_of!(ServiceRecord, local) == 8 && offset_of!(ServiceRecord, attributes) == 16);
const _: () = assert!(size_of::<SourceRange<crate::address::Addr4>>() == 8);
const _: () = assert!(size_of::<SourceRange<crate::address::Addr6>>() == 20);
