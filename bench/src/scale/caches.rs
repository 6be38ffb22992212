//! The processor's caches, emptied: what an event costs with nothing at hand is what it has to do, and not what happened
//! to lie in a cache because the cluster is small.

use std::{fs, hint::black_box, path::Path};

use anyhow::{Context, Result};

/// Where the last level's size is not told, as on some virtual machines.
const USUAL: usize = 128 << 20;
/// Bytes that caches hold together.
const LINE: usize = 64;

/// Memory that fills the last level twice over.
pub(super) struct Caches(Vec<u8>);

impl Caches {
    pub(super) fn new() -> Result<Self> {
        let size = last_level(Path::new("/sys/devices/system/cpu/cpu0/cache"))?.unwrap_or(USUAL);
        // Written, so that each page is one of its own.
        Ok(Self(vec![1; size * 2]))
    }

    pub(super) fn empty(&self) {
        let sum = self.0.iter().step_by(LINE).fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        black_box(sum);
    }
}

/// In bytes: the largest of the levels that the kernel lists.
fn last_level(listed: &Path) -> Result<Option<usize>> {
    let Ok(levels) = fs::read_dir(listed) else { return Ok(None) };
    let mut largest = None;
    for level in levels {
        let Ok(size) = fs::read_to_string(level?.path().join("size")) else { continue };
        largest = largest.max(Some(bytes(size.trim())?));
    }
    Ok(largest)
}

/// `32768K`, as the kernel writes it (Documentation/ABI/testing/sysfs-devices-system-cpu).
fn bytes(size: &str) -> Result<usize> {
    let kib: usize = size.strip_suffix('K').and_then(|number| number.parse().ok()).context("a cache's size")?;
    Ok(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_level_is_the_largest_that_is_listed() {
        let listed = tempfile::tempdir().unwrap();
        assert_eq!(last_level(listed.path()).unwrap(), None);
        for (level, size) in [("index0", "48K\n"), ("index3", "107520K\n"), ("index2", "2048K\n")] {
            fs::create_dir(listed.path().join(level)).unwrap();
            fs::write(listed.path().join(level).join("size"), size).unwrap();
        }
        fs::write(listed.path().join("uevent"), "").unwrap();
        assert_eq!(last_level(listed.path()).unwrap(), Some(107_520 << 10));
        assert_eq!(last_level(&listed.path().join("none")).unwrap(), None);
    }
}
