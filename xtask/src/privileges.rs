//! May this process load programs and make network namespaces? Asked before a test relies on it, so that a missing
//! privilege is one clear line and never a skipped test.

use std::fs;

use anyhow::{Result, bail};

/// linux/capability.h: what tests and demo need, by bit.
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (39, "CAP_BPF")];

pub(crate) fn is_root() -> bool {
    status_field("Uid:")
        .and_then(|ids| ids.split_whitespace().nth(1).map(|effective| effective == "0"))
        .unwrap_or(false)
}

/// # Errors
/// The capabilities that this process lacks.
pub(crate) fn require(what: &str) -> Result<()> {
    let effective = status_field("CapEff:").and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let missing = missing(effective);
    if !missing.is_empty() {
        bail!("{what} load eBPF programs and make network namespaces: run as root (missing: {})", missing.join(", "));
    }
    Ok(())
}

fn missing(effective: u64) -> Vec<&'static str> {
    NEEDED.iter().filter(|(bit, _)| effective & (1 << bit) == 0).map(|(_, name)| *name).collect()
}

fn status_field(name: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn root_lacks_nothing() {
        assert!(missing(0x1ff_ffff_ffff).is_empty());
    }

    #[test]
    fn a_containers_default_set_is_told_what_it_lacks() {
        assert_eq!(missing(0xa804_25fb), ["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_BPF"]);
    }
}
