//! The mount table: where the cgroup v2 hierarchy is.

use std::path::PathBuf;

/// Mount point of the first cgroup v2 hierarchy in the text of `/proc/self/mountinfo`: `/sys/fs/cgroup`, or
/// `/sys/fs/cgroup/unified` on a hybrid host.
#[must_use]
pub(super) fn cgroup2(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        // proc_pid_mountinfo(5): optional fields end with a lone dash, the file system's type follows.
        let (mount, filesystem) = line.split_once(" - ")?;
        (filesystem.split(' ').next()? == "cgroup2").then_some(())?;
        Some(unescape(mount.split(' ').nth(4)?))
    })
}

/// Spaces, tabs, newlines and backslashes are written as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        if let Some(digits) = octal {
            bytes.push(digits.iter().fold(0u8, |byte, digit| byte.wrapping_mul(8).wrapping_add(digit - b'0')));
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_of_a_hybrid_host_is_found_beside_the_old_controllers() {
        let table = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                     32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
                     41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:18 master:2 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2(table), Some("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn a_mount_point_with_a_space_is_read_as_it_is() {
        let table = r"41 31 0:38 / /mnt/two\040words\134x rw - cgroup2 none rw";
        assert_eq!(cgroup2(table), Some(r"/mnt/two words\x".into()));
    }

    #[test]
    fn a_host_without_cgroup_v2_has_none() {
        assert_eq!(cgroup2("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\nnonsense\n\n"), None);
    }
}
