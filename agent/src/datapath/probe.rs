//! What this kernel and this process can do: checked once at start. What is needed is refused by name; what has a
//! fallback is logged by name.

use std::{fs, path::Path};

use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported},
};
use tracing::info;

use super::{SetupError, has_tcx};

/// Bits of `CapEff` (linux/capability.h). CAP_SYS_ADMIN stands for the two newer ones.
const NET_ADMIN: u32 = 12;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

/// What the data path can use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Programs attach to devices by links; else by filters of clsact.
    pub tcx: bool,
}

/// Something of the kernel's that the data path uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    /// The first kernel that has it, where its maker has not left it out.
    pub since: &'static str,
    /// What is done in its place.
    pub without: &'static str,
    /// This kernel has it.
    pub here: bool,
}

/// Every feature that kernels differ in, as found in this one.
#[must_use]
pub fn features() -> Vec<Feature> {
    let feature = |name, since, without, here| Feature { name, since, without, here };
    // The verifier has the last word: where a probe cannot tell, it is asked.
    let helper = |kind, helper| is_helper_supported(kind, helper).unwrap_or(true);
    let (socket, packet) = (ProgramType::CgroupSockAddr, ProgramType::SchedClassifier);
    vec![
        feature("TCX links", "6.6", "devices are attached through filters of the clsact qdisc", has_tcx()),
        feature(
            "bpf_set_retval",
            "5.18",
            "the socket hooks are refused: a refused connection would be told EPERM",
            helper(socket, BpfHelper::BPF_FUNC_set_retval),
        ),
        feature(
            "bpf_loop",
            "5.17",
            "the per-packet programs are refused: no search for a free port",
            helper(packet, BpfHelper::BPF_FUNC_loop),
        ),
        feature(
            "bpf_for_each_map_elem",
            "5.13",
            "the sweep of flows that are over is refused",
            helper(packet, BpfHelper::BPF_FUNC_for_each_map_elem),
        ),
        feature(
            "bpf_check_mtu",
            "5.12",
            "the per-packet programs are refused: nobody would tell a sender that a packet is too large",
            helper(packet, BpfHelper::BPF_FUNC_check_mtu),
        ),
        feature(
            "bpf_ktime_get_coarse_ns",
            "5.11",
            "the per-packet programs are refused",
            helper(packet, BpfHelper::BPF_FUNC_ktime_get_coarse_ns),
        ),
        feature(
            "bpf_redirect_neigh",
            "5.10",
            "the per-packet programs are refused: answers from the node's own address would be martians",
            helper(packet, BpfHelper::BPF_FUNC_redirect_neigh),
        ),
        feature(
            "bpf_redirect_peer",
            "5.10",
            "the per-packet programs are refused: pods of a node could not be handed packets past its stack",
            helper(packet, BpfHelper::BPF_FUNC_redirect_peer),
        ),
        feature(
            "bpf_get_netns_cookie",
            "5.7",
            "the socket hooks are refused: host and pods could not be told apart",
            helper(socket, BpfHelper::BPF_FUNC_get_netns_cookie),
        ),
        feature(
            "bpf_get_current_ancestor_cgroup_id",
            "5.7",
            "the socket hooks are refused: pods that are translated per packet could not be told from others",
            helper(socket, BpfHelper::BPF_FUNC_get_current_ancestor_cgroup_id),
        ),
        feature("BTF of the kernel", "5.4", "the agent does not start", Path::new(KERNEL_TYPES).exists()),
        feature(
            "socket storage",
            "5.2",
            "the socket hooks are refused",
            aya::sys::is_map_supported(MapType::SkStorage).unwrap_or(true),
        ),
    ]
}

/// Refuses what the data path cannot do without, and logs the rest once.
///
/// # Errors
/// Missing capabilities or BTF.
pub fn probe() -> Result<Features, SetupError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(missing) = missing_capabilities(&status) {
        return Err(SetupError::Capabilities { missing });
    }
    if !Path::new(KERNEL_TYPES).exists() {
        return Err(SetupError::NoBtf);
    }
    let features = Features { tcx: has_tcx() };
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    info!(kernel = kernel.unwrap_or_default(), tcx = features.tcx, "kernel");
    for feature in self::features().iter().filter(|feature| !feature.here) {
        info!(feature = feature.name, since = feature.since, "the kernel lacks a feature: {}", feature.without);
    }
    Ok(features)
}

/// From the text of `/proc/self/status`: the names of those that are missing.
fn missing_capabilities(status: &str) -> Option<String> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(line.trim(), 16).ok()?;
    let has = |bit: u32| effective >> bit & 1 == 1;
    let wanted = [
        ("CAP_BPF", has(BPF) || has(SYS_ADMIN)),
        ("CAP_PERFMON", has(PERFMON) || has(SYS_ADMIN)),
        ("CAP_NET_ADMIN", has(NET_ADMIN)),
    ];
    let missing: Vec<_> = wanted.iter().filter(|(_, held)| !held).map(|(name, _)| *name).collect();
    if missing.is_empty() { None } else { Some(missing.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_misses_nothing() {
        assert_eq!(missing_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"), None);
    }

    #[test]
    fn an_ordinary_user_is_told_all_that_is_missing() {
        let missing = missing_capabilities("CapEff:\t0000000000000000\n").unwrap();
        assert_eq!(missing, "CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN");
    }

    #[test]
    fn a_container_with_the_right_capabilities_needs_no_more() {
        let effective = 1u64 << BPF | 1 << PERFMON | 1 << NET_ADMIN;
        assert_eq!(missing_capabilities(&format!("CapEff:\t{effective:016x}\n")), None);
    }
}
