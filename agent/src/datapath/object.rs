//! The eBPF object, built by the build script and carried inside the agent's binary.

use aya::include_bytes_aligned;

/// The ELF: programs, map definitions and their BTF. Aligned as its parser asks.
#[must_use]
pub fn object() -> &'static [u8] {
    include_bytes_aligned!(env!("MILLRACE_EBPF_OBJECT"))
}
