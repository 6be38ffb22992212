//! IPv4 and IPv6 as one piece of code: what differs is an address and the maps that are keyed by it.

use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray};
use millrace_common::{
    address::{Addr4, Addr6, Address, map},
    affinity::{AffinityKey, AffinityValue},
    backend::Slot,
    flow::{Flow, Tuple},
    fragment::{FragmentKey, FragmentPorts},
    frontend::{FrontendKey, FrontendValue},
    host_routing::Path,
    node::OwnAddress,
    scratch::Scratch,
    service::SourceRange,
};

use crate::maps;

pub(crate) trait Family {
    type Address: Address;

    fn frontends() -> &'static HashMap<FrontendKey<Self::Address>, FrontendValue>;
    fn slots() -> &'static Array<Slot<Self::Address>>;
    fn ct() -> &'static HashMap<Tuple<Self::Address>, Flow<Self::Address>>;
    fn ct_new() -> &'static LruHashMap<Tuple<Self::Address>, Flow<Self::Address>>;
    fn affinity() -> &'static LruHashMap<AffinityKey<Self::Address>, AffinityValue>;
    fn fragments() -> &'static LruHashMap<FragmentKey<Self::Address>, FragmentPorts>;
    fn service_cidrs() -> &'static LpmTrie<Self::Address, u32>;
    fn source_ranges() -> &'static LpmTrie<SourceRange<Self::Address>, u32>;
    fn scratch() -> &'static PerCpuArray<Scratch<Self::Address>>;
    fn paths() -> &'static PerCpuArray<Path<Self::Address>>;
    fn node_addresses() -> &'static HashMap<Self::Address, u32>;
    /// The part of this family.
    fn own(of: *const OwnAddress) -> *const Self::Address;
    /// As socket storage keeps it: IPv4 is mapped.
    fn mapped(address: Self::Address) -> Addr6;
    /// The way back: the last words of the mapped form.
    fn unmapped(address: Addr6) -> Self::Address;
}

pub(crate) struct V4;
pub(crate) struct V6;

macro_rules! family {
    ($name:ident, $address:ty, $own:ident, $mapped:expr, $unmapped:expr,
     $frontends:ident $slots:ident $ct:ident $ct_new:ident $affinity:ident $fragments:ident $cidrs:ident $ranges:ident $scratch:ident $paths:ident $node:ident) => {
        impl Family for $name {
            type Address = $address;

            #[inline(always)]
            fn frontends() -> &'static HashMap<FrontendKey<$address>, FrontendValue> {
                &maps::$frontends
            }
            #[inline(always)]
            fn slots() -> &'static Array<Slot<$address>> {
                &maps::$slots
            }
            #[inline(always)]
            fn ct() -> &'static HashMap<Tuple<$address>, Flow<$address>> {
                &maps::$ct
            }
            #[inline(always)]
            fn ct_new() -> &'static LruHashMap<Tuple<$address>, Flow<$address>> {
                &maps::$ct_new
            }
            #[inline(always)]
            fn affinity() -> &'static LruHashMap<AffinityKey<$address>, AffinityValue> {
                &maps::$affinity
            }
            #[inline(always)]
            fn fragments() -> &'static LruHashMap<FragmentKey<$address>, FragmentPorts> {
                &maps::$fragments
            }
            #[inline(always)]
            fn service_cidrs() -> &'static LpmTrie<$address, u32> {
                &maps::$cidrs
            }
            #[inline(always)]
            fn source_ranges() -> &'static LpmTrie<SourceRange<$address>, u32> {
                &maps::$ranges
            }
            #[inline(always)]
            fn scratch() -> &'static PerCpuArray<Scratch<$address>> {
                &maps::$scratch
            }
            #[inline(always)]
            fn paths() -> &'static PerCpuArray<Path<$address>> {
                &maps::$paths
            }
            #[inline(always)]
            fn node_addresses() -> &'static HashMap<$address, u32> {
                &maps::$node
            }
            #[inline(always)]
            fn own(of: *const OwnAddress) -> *const $address {
                // SAFETY: only where it lies: nothing is read.
                unsafe { &raw const (*of).$own }
            }
            #[inline(always)]
            fn mapped(address: $address) -> Addr6 {
                $mapped(address)
            }
            #[inline(always)]
            fn unmapped(address: Addr6) -> $address {
                $unmapped(address)
            }
        }
    };
}

family!(V4, Addr4, v4, map, |mapped: Addr6| [mapped[3]],
    FRONTENDS_V4 SLOTS_V4 CT_V4 CT_NEW_V4 AFFINITY_V4 FRAGMENTS_V4 SERVICE_CIDRS_V4 SOURCE_RANGES_V4 SCRATCH_V4 PATHS_V4 NODE_ADDRESSES_V4);
family!(V6, Addr6, v6, core::convert::identity, core::convert::identity,
    FRONTENDS_V6 SLOTS_V6 CT_V6 CT_NEW_V6 AFFINITY_V6 FRAGMENTS_V6 SERVICE_CIDRS_V6 SOURCE_RANGES_V6 SCRATCH_V6 PATHS_V6 NODE_ADDRESSES_V6);
