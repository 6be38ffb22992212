//! Every map once: its name in the object, its shape, its default size.

use crate::{
    address::{Addr4, Addr6},
    affinity::{AffinityKey, AffinityValue},
    answer::Bucket,
    backend::Slot,
    flow::{Flow, Tuple},
    fragment::{FragmentKey, FragmentPorts},
    frontend::{FrontendKey, FrontendValue},
    host_routing::{PATHS, Path},
    marks,
    node::OwnAddress,
    per_packet::Levels,
    router::Router,
    scratch::Scratch,
    service::{ServiceName, ServiceRecord, SourceRange},
    socket::Connection,
    verdict::STATS_ENTRIES,
};

/// Counts up whenever a key, a value or its meaning changes. An agent refuses pinned maps of another version by name.
pub const LAYOUT_VERSION: u32 = 4;

/// `BPF_F_NO_PREALLOC` (linux/bpf.h).
pub const NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE` (linux/bpf.h).
pub const MMAPABLE: u32 = 1 << 10;

/// The kernel's kinds of map that millrace uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapKind {
    Hash,
    LruHash,
    Array,
    PerCpuArray,
    LpmTrie,
}

impl MapKind {
    /// `enum bpf_map_type` (linux/bpf.h).
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Hash => 1,
            Self::Array => 2,
            Self::PerCpuArray => 6,
            Self::LruHash => 9,
            Self::LpmTrie => 11,
        }
    }
}

/// One map, as the object file must define it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapSpec {
    pub name: &'static str,
    pub kind: MapKind,
    pub key_size: u32,
    pub value_size: u32,
    /// Default; the agent may choose another size at load time.
    pub max_entries: u32,
    pub flags: u32,
}

const fn spec<K, V>(name: &'static str, kind: MapKind, max_entries: u32, flags: u32) -> MapSpec {
    MapSpec { name, kind, key_size: size_of::<K>() as u32, value_size: size_of::<V>() as u32, max_entries, flags }
}

/// Default number of service records (a service port in one family).
pub const SERVICES: u32 = 1 << 14;
/// Default number of frontends per family.
pub const FRONTENDS: u32 = 1 << 15;
/// Default number of backend ids, shared by both families.
pub const BACKENDS: u32 = 1 << 18;
/// Default number of slots per family.
pub const SLOTS: u32 = 1 << 18;
/// Default number of CT entries per family: two for each flow.
pub const FLOWS: u32 = 1 << 17;
/// Default number of entries for flows that nobody has answered yet.
pub const NEW_FLOWS: u32 = 1 << 14;
/// Default number of remembered clients per family.
pub const AFFINITY: u32 = 1 << 14;
/// Default number of TCP sockets whose frontend is remembered: translated connections that are open at a time.
pub const SOCKETS: u32 = 1 << 16;
/// Default number of fragmented datagrams under way per family.
pub const FRAGMENTS: u32 = 1 << 12;
/// Ranges that services live in.
pub const SERVICE_CIDRS: u32 = 256;
/// Source ranges of all services per family. Memory is taken as they come.
pub const SOURCE_RANGES: u32 = 1 << 16;
/// Devices that XDP may send packets to: uplinks that have its program.
pub const XDP_TARGETS: u32 = 64;
/// Devices by which clients come whom no route leads back to.
pub const ROUTERS: u32 = 64;
/// Pods of a node whose connections are translated per packet. Memory is taken as they come.
pub const PACKET_CGROUPS: u32 = 1 << 12;
/// Pods of a node whose packets to each other need not pass its stack; what is beyond goes by it.
pub const POD_DEVICES: u32 = 1024;

/// Addresses that the node has, per family. Memory is taken as they come.
pub const NODE_ADDRESSES: u32 = 1 << 12;

/// Key of a longest-prefix trie: `struct bpf_lpm_trie_key` (linux/bpf.h) with an address of family `A`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PrefixKey<A> {
    /// Host order, as the kernel wants it.
    pub prefix_len: u32,
    pub address: A,
}

/// All pinned maps. The UDP sockets' storage (DATAGRAMS) is pinned too, but sized by the kernel.
pub const ALL: &[MapSpec] = &[
    spec::<FrontendKey<Addr4>, FrontendValue>("FRONTENDS_V4", MapKind::Hash, FRONTENDS, 0),
    spec::<FrontendKey<Addr6>, FrontendValue>("FRONTENDS_V6", MapKind::Hash, FRONTENDS, 0),
    spec::<u32, ServiceRecord>("SERVICES", MapKind::Array, SERVICES, MMAPABLE),
    spec::<u32, ServiceName>("NAMES", MapKind::Array, SERVICES, MMAPABLE),
    spec::<u32, Slot<Addr4>>("SLOTS_V4", MapKind::Array, SLOTS, MMAPABLE),
    spec::<u32, Slot<Addr6>>("SLOTS_V6", MapKind::Array, SLOTS, MMAPABLE),
    spec::<u32, u64>("BACKENDS", MapKind::Array, BACKENDS, MMAPABLE),
    spec::<Tuple<Addr4>, Flow<Addr4>>("CT_V4", MapKind::Hash, FLOWS, 0),
    spec::<Tuple<Addr6>, Flow<Addr6>>("CT_V6", MapKind::Hash, FLOWS, 0),
    spec::<Tuple<Addr4>, Flow<Addr4>>("CT_NEW_V4", MapKind::LruHash, NEW_FLOWS, 0),
    spec::<Tuple<Addr6>, Flow<Addr6>>("CT_NEW_V6", MapKind::LruHash, NEW_FLOWS, 0),
    spec::<AffinityKey<Addr4>, AffinityValue>("AFFINITY_V4", MapKind::LruHash, AFFINITY, 0),
    spec::<AffinityKey<Addr6>, AffinityValue>("AFFINITY_V6", MapKind::LruHash, AFFINITY, 0),
    spec::<u64, Connection>("SOCKETS", MapKind::LruHash, SOCKETS, 0),
    spec::<FragmentKey<Addr4>, FragmentPorts>("FRAGMENTS_V4", MapKind::LruHash, FRAGMENTS, 0),
    spec::<FragmentKey<Addr6>, FragmentPorts>("FRAGMENTS_V6", MapKind::LruHash, FRAGMENTS, 0),
    spec::<PrefixKey<Addr4>, u32>("SERVICE_CIDRS_V4", MapKind::LpmTrie, SERVICE_CIDRS, NO_PREALLOC),
    spec::<PrefixKey<Addr6>, u32>("SERVICE_CIDRS_V6", MapKind::LpmTrie, SERVICE_CIDRS, NO_PREALLOC),
    spec::<PrefixKey<SourceRange<Addr4>>, u32>("SOURCE_RANGES_V4", MapKind::LpmTrie, SOURCE_RANGES, NO_PREALLOC),
    spec::<PrefixKey<SourceRange<Addr6>>, u32>("SOURCE_RANGES_V6", MapKind::LpmTrie, SOURCE_RANGES, NO_PREALLOC),
    spec::<u32, Scratch<Addr4>>("SCRATCH_V4", MapKind::PerCpuArray, 1, 0),
    spec::<u32, Scratch<Addr6>>("SCRATCH_V6", MapKind::PerCpuArray, 1, 0),
    spec::<u32, u32>("XDP_TARGETS", MapKind::Hash, XDP_TARGETS, 0),
    spec::<u32, Router>("ROUTERS", MapKind::Hash, ROUTERS, 0),
    spec::<u32, u64>("HOST_ROUTING", MapKind::Array, 1, MMAPABLE),
    spec::<u32, u32>("POD_DEVICES", MapKind::Hash, POD_DEVICES, 0),
    spec::<u32, Path<Addr4>>("PATHS_V4", MapKind::PerCpuArray, PATHS, 0),
    spec::<u32, Path<Addr6>>("PATHS_V6", MapKind::PerCpuArray, PATHS, 0),
    spec::<u32, Bucket>("ANSWERS", MapKind::PerCpuArray, 1, 0),
    spec::<u32, u64>("WITHDRAWALS", MapKind::Array, 1, MMAPABLE),
    spec::<u32, u64>("ROUTE_CHANGES", MapKind::Array, 1, MMAPABLE),
    spec::<u32, u64>("SERVICE_MARKS", MapKind::Array, marks::SERVICE_WORDS, MMAPABLE),
    spec::<u32, u64>("ANSWER_MARKS", MapKind::Array, marks::ANSWER_WORDS, 0),
    spec::<u64, u32>("PACKET_CGROUPS", MapKind::Hash, PACKET_CGROUPS, NO_PREALLOC),
    spec::<u32, Levels>("PACKET_LEVELS", MapKind::Array, 1, MMAPABLE),
    spec::<u32, OwnAddress>("NODE_ADDRESS", MapKind::Array, 2, MMAPABLE),
    spec::<Addr4, u32>("NODE_ADDRESSES_V4", MapKind::Hash, NODE_ADDRESSES, NO_PREALLOC),
    spec::<Addr6, u32>("NODE_ADDRESSES_V6", MapKind::Hash, NODE_ADDRESSES, NO_PREALLOC),
    spec::<u32, u64>("STATS", MapKind::PerCpuArray, STATS_ENTRIES, 0),
];
