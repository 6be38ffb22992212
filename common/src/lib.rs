//! The ABI between millrace's eBPF programs and its agent.
//!
//! Every map's key, value, name and default size is described here once; both sides compile this crate. The pure
//! choices that the programs make (which slot, is this backend in this set) live here too, so that the host tests
//! the very code that the kernel runs.
//!
//! Byte order: addresses and ports are kept as the network has them, in memory order. They flip only in the
//! constructors of [`address`].
#![no_std]
#![cfg_attr(not(feature = "user"), forbid(unsafe_code))]

pub mod address;
pub mod affinity;
pub mod answer;
pub mod backend;
pub mod checksum;
pub mod crc32c;
pub mod flow;
pub mod fragment;
pub mod frontend;
pub mod header;
pub mod host_routing;
pub mod maglev;
pub mod maps;
pub mod marks;
pub mod node;
pub mod per_packet;
pub mod router;
pub mod scratch;
pub mod select;
pub mod service;
pub mod snat;
pub mod socket;
pub mod sweep;
pub mod verdict;
pub mod way;

#[cfg(feature = "user")]
mod pod;
