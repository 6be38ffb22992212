//! The maps, as `millrace_common::maps` describes them. A test compares the object with that table.

use aya_ebpf::{
    btf_maps::SkStorage,
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray},
};
use millrace_common::{
    address::{Addr4, Addr6},
    affinity::{AffinityKey, AffinityValue},
    answer::Bucket,
    backend::{BackendState, Slot},
    flow::{Flow, Tuple},
    fragment::{FragmentKey, FragmentPorts},
    frontend::{FrontendKey, FrontendValue},
    host_routing::{PATHS, Path},
    maps::{
        AFFINITY, BACKENDS as BACKEND_IDS, FLOWS, FRAGMENTS, FRONTENDS, MMAPABLE, NEW_FLOWS, NO_PREALLOC,
        NODE_ADDRESSES, PACKET_CGROUPS as CHOSEN, POD_DEVICES as PODS, ROUTERS as WAYS_BACK, SERVICE_CIDRS,
        SERVICES as RECORDS, SLOTS, SOCKETS as CONNECTIONS, SOURCE_RANGES, XDP_TARGETS as TARGETS,
    },
    marks,
    node::OwnAddress,
    per_packet::Levels,
    router::Router,
    scratch::Scratch,
    service::{ServiceName, ServiceRecord, SourceRange},
    socket::{Connection, Datagrams},
    verdict::STATS_ENTRIES,
};

#[map]
pub(crate) static FRONTENDS_V4: HashMap<FrontendKey<Addr4>, FrontendValue> = HashMap::with_max_entries(FRONTENDS, 0);
#[map]
pub(crate) static FRONTENDS_V6: HashMap<FrontendKey<Addr6>, FrontendValue> = HashMap::with_max_entries(FRONTENDS, 0);
#[map]
pub(crate) static SERVICES: Array<ServiceRecord> = Array::with_max_entries(RECORDS, MMAPABLE);
/// For people: no program reads it.
#[map]
static NAMES: Array<ServiceName> = Array::with_max_entries(RECORDS, MMAPABLE);
#[map]
pub(crate) static SLOTS_V4: Array<Slot<Addr4>> = Array::with_max_entries(SLOTS, MMAPABLE);
#[map]
pub(crate) static SLOTS_V6: Array<Slot<Addr6>> = Array::with_max_entries(SLOTS, MMAPABLE);
#[map]
pub(crate) static BACKENDS: Array<BackendState> = Array::with_max_entries(BACKEND_IDS, MMAPABLE);
#[map]
pub(crate) static CT_V4: HashMap<Tuple<Addr4>, Flow<Addr4>> = HashMap::with_max_entries(FLOWS, 0);
#[map]
pub(crate) static CT_V6: HashMap<Tuple<Addr6>, Flow<Addr6>> = HashMap::with_max_entries(FLOWS, 0);
#[map]
pub(crate) static CT_NEW_V4: LruHashMap<Tuple<Addr4>, Flow<Addr4>> = LruHashMap::with_max_entries(NEW_FLOWS, 0);
#[map]
pub(crate) static CT_NEW_V6: LruHashMap<Tuple<Addr6>, Flow<Addr6>> = LruHashMap::with_max_entries(NEW_FLOWS, 0);
#[map]
pub(crate) static AFFINITY_V4: LruHashMap<AffinityKey<Addr4>, AffinityValue> =
    LruHashMap::with_max_entries(AFFINITY, 0);
#[map]
pub(crate) static AFFINITY_V6: LruHashMap<AffinityKey<Addr6>, AffinityValue> =
    LruHashMap::with_max_entries(AFFINITY, 0);
#[map]
pub(crate) static FRAGMENTS_V4: LruHashMap<FragmentKey<Addr4>, FragmentPorts> =
    LruHashMap::with_max_entries(FRAGMENTS, 0);
#[map]
pub(crate) static FRAGMENTS_V6: LruHashMap<FragmentKey<Addr6>, FragmentPorts> =
    LruHashMap::with_max_entries(FRAGMENTS, 0);
#[map]
pub(crate) static SERVICE_CIDRS_V4: LpmTrie<Addr4, u32> = LpmTrie::with_max_entries(SERVICE_CIDRS, NO_PREALLOC);
#[map]
pub(crate) static SERVICE_CIDRS_V6: LpmTrie<Addr6, u32> = LpmTrie::with_max_entries(SERVICE_CIDRS, NO_PREALLOC);
#[map]
pub(crate) static SOURCE_RANGES_V4: LpmTrie<SourceRange<Addr4>, u32> =
    LpmTrie::with_max_entries(SOURCE_RANGES, NO_PREALLOC);
#[map]
pub(crate) static SOURCE_RANGES_V6: LpmTrie<SourceRange<Addr6>, u32> =
    LpmTrie::with_max_entries(SOURCE_RANGES, NO_PREALLOC);
#[map]
pub(crate) static SCRATCH_V4: PerCpuArray<Scratch<Addr4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static SCRATCH_V6: PerCpuArray<Scratch<Addr6>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static XDP_TARGETS: HashMap<u32, u32> = HashMap::with_max_entries(TARGETS, 0);
/// Whom clients came by, by device, where no route leads back to them.
#[map]
pub(crate) static ROUTERS: HashMap<u32, Router> = HashMap::with_max_entries(WAYS_BACK, 0);
/// Until when packets may go past the node's stack: CLOCK_MONOTONIC, in nanoseconds. An agent that is not running learns
/// of no firewall.
#[map]
pub(crate) static HOST_ROUTING: Array<u64> = Array::with_max_entries(1, MMAPABLE);
/// Where to, as the kernel said: each CPU remembers for itself, so that no path is read while another CPU writes it.
#[map]
pub(crate) static PATHS_V4: PerCpuArray<Path<Addr4>> = PerCpuArray::with_max_entries(PATHS, 0);
#[map]
pub(crate) static PATHS_V6: PerCpuArray<Path<Addr6>> = PerCpuArray::with_max_entries(PATHS, 0);
/// Host sides of pods' veths that have nothing on them that wants to see packets.
#[map]
pub(crate) static POD_DEVICES: HashMap<u32, u32> = HashMap::with_max_entries(PODS, 0);
#[map]
pub(crate) static ANSWERS: PerCpuArray<Bucket> = PerCpuArray::with_max_entries(1, 0);
/// How often UDP frontends were deleted, or addresses of the node lost.
#[map]
pub(crate) static WITHDRAWALS: Array<u64> = Array::with_max_entries(1, MMAPABLE);
/// How often the ways on may have changed, as far as the agent was told.
#[map]
pub(crate) static ROUTE_CHANGES: Array<u64> = Array::with_max_entries(1, MMAPABLE);
/// Addresses that services have: whatever has no mark is none of them.
#[map]
pub(crate) static SERVICE_MARKS: Array<u64> = Array::with_max_entries(marks::SERVICE_WORDS, MMAPABLE);
/// Answers that are translated at a pod's veth: whatever has no mark is none of them.
#[map]
pub(crate) static ANSWER_MARKS: Array<u64> = Array::with_max_entries(marks::ANSWER_WORDS, 0);
/// Cgroups of pods whose calls the socket hooks leave alone, by id.
#[map]
pub(crate) static PACKET_CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(CHOSEN, NO_PREALLOC);
/// Where to look for them.
#[map]
pub(crate) static PACKET_LEVELS: Array<Levels> = Array::with_max_entries(1, MMAPABLE);
/// As which address the node asks backends for clients outside.
#[map]
pub(crate) static NODE_ADDRESS: Array<OwnAddress> = Array::with_max_entries(2, MMAPABLE);
/// Every address that the node has.
#[map]
pub(crate) static NODE_ADDRESSES_V4: HashMap<Addr4, u32> = HashMap::with_max_entries(NODE_ADDRESSES, NO_PREALLOC);
#[map]
pub(crate) static NODE_ADDRESSES_V6: HashMap<Addr6, u32> = HashMap::with_max_entries(NODE_ADDRESSES, NO_PREALLOC);
#[map]
pub(crate) static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(STATS_ENTRIES, 0);

/// A TCP socket's frontend: what getpeername() answers. Entries go with their sockets; the LRU is for those of the
/// kernel's own sockets, whose end no program is told.
#[map]
pub(crate) static SOCKETS: LruHashMap<u64, Connection> = LruHashMap::with_max_entries(CONNECTIONS, 0);
/// A UDP socket's sticky choices.
#[btf_map]
pub(crate) static DATAGRAMS: SkStorage<Datagrams> = SkStorage::new();
