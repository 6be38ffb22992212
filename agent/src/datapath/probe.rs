//! What this kernel and this process can do: checked once at start. What is needed is refused by name; what has a
//! fallback is logged by name.

use std::{fs, path::Path};

use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported},
};
use tracing::{info, warn};

use super::{SetupError, has_tcx};

/// Bits of `CapEff` (linux/capability.h). CAP_SYS_ADMIN stands for the two newer ones.
const NET_ADMIN: u32 = 12;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

/// What the data path can use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Programs attach to devices by links; else by filters of clsact.
    pub tcx: bool,
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
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(SetupError::NoBtf);
    }
    let features = Features { tcx: has_tcx() };
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    info!(kernel = kernel.unwrap_or_default(), tcx = features.tcx, "kernel");
    if !features.tcx {
        info!("the kernel has no TCX (6.6): devices are attached through the clsact qdisc");
    }
    for (helper, name, lost) in [
        (BpfHelper::BPF_FUNC_set_retval, "bpf_set_retval", "refused connections would be told EPERM"),
        (BpfHelper::BPF_FUNC_get_netns_cookie, "bpf_get_netns_cookie", "host and pods could not be told apart"),
    ] {
        // The verifier has the last word: this line explains what it is about to refuse.
        if !is_helper_supported(ProgramType::CgroupSockAddr, helper).unwrap_or(true) {
            warn!(helper = name, "the kernel lacks a helper (5.18 has all): {lost}");
        }
    }
    if !aya::sys::is_map_supported(MapType::SkStorage).unwrap_or(true) {
        warn!("the kernel has no socket storage (5.10 for these programs)");
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
