//! Kernel memory that a rival's tools leave behind: they run in a memory cgroup of their own, which what they made in
//! the kernel (tables, chains, rules, sets) stays charged to when they have ended.

use std::{
    fs,
    path::{Path, PathBuf},
};

use millrace_tests::{netns::unique, place::owner_is_gone};

/// One memory cgroup; dropping it removes it.
#[derive(Debug)]
pub(super) struct Account {
    path: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Account {
    /// `None` where there is no memory controller to be had: the figure is then not known.
    pub(super) fn open() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let (parent, version) = parent(&mounts, &own)?;
        sweep(&parent);
        let path = parent.join(unique("memory"));
        fs::create_dir(&path).ok()?;
        let account = Self { path, version };
        // A cgroup of version 2 has the controller only where its parent hands it down.
        account.mib().is_some().then_some(account)
    }

    /// Where a process writes "0" to be charged here.
    pub(super) fn entrance(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// MiB charged now.
    pub(super) fn mib(&self) -> Option<f64> {
        let bytes: f64 = match self.version {
            Version::One => {
                fs::read_to_string(self.path.join("memory.kmem.usage_in_bytes")).ok()?.trim().parse().ok()?
            }
            Version::Two => {
                let text = fs::read_to_string(self.path.join("memory.stat")).ok()?;
                text.lines().find_map(|line| line.strip_prefix("kernel "))?.parse().ok()?
            }
        };
        Some(bytes / f64::from(1 << 20))
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // What is still charged keeps it alive in the kernel, not in the tree.
        drop(fs::remove_dir(&self.path));
    }
}

/// The directory below which a cgroup may be made: this process's own in version 1, so that limits hold; the root's in
/// version 2, where a cgroup with processes has no children with controllers.
fn parent(mounts: &str, own: &str) -> Option<(PathBuf, Version)> {
    let mount = |is_wanted: &dyn Fn(&str, &str) -> bool| {
        mounts.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [_, path, kind, options, ..] if is_wanted(kind, options) => Some(PathBuf::from(path)),
            _ => None,
        })
    };
    let has_memory = |options: &str| options.split(',').any(|option| option == "memory");
    if let Some(root) = mount(&|kind, options| kind == "cgroup" && has_memory(options)) {
        let memory = |line: &str| -> Option<String> {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            has_memory(controllers).then(|| fields.next().map(str::to_owned)).flatten()
        };
        let path = own.lines().find_map(memory)?;
        return Some((root.join(path.trim_start_matches('/')), Version::One));
    }
    mount(&|kind, _| kind == "cgroup2").map(|root| (root, Version::Two))
}

/// Removes those of processes that were killed.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if owner_is_gone(&entry.file_name().to_string_lossy()) {
            drop(fs::remove_dir(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Version, parent};

    #[test]
    fn the_controller_is_found_on_hosts_of_either_version_and_on_hybrid_ones() {
        let one = "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let found = parent(one, "9:name=systemd:/\n4:memory:/a/b\n0::/\n").unwrap();
        assert_eq!(found, ("/sys/fs/cgroup/memory/a/b".into(), Version::One));
        let two = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(parent(two, "0::/user.slice\n").unwrap(), ("/sys/fs/cgroup".into(), Version::Two));
        assert_eq!(parent("proc /proc proc rw 0 0\n", "0::/\n"), None);
    }
}
