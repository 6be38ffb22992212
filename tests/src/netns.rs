//! Network namespaces: made, entered and removed. They are kept under /run/netns, so that `ip netns exec` and
//! `nsenter --net=/run/netns/NAME` look into one that a failing test leaves on screen.

use std::{
    fs::{self, File},
    io::Write,
    net::Ipv6Addr,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

const DIRECTORY: &str = "/run/netns";
/// Every name that the harness gives out begins so, with the id of the process that made it.
pub const PREFIX: &str = "mr-";

/// A name that no other process and no other test of this process uses: `mr-PID-N-WHAT`.
#[must_use]
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}-{}-{what}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A network namespace of its own; dropping it removes it with all its devices (once the last process in it ends).
#[derive(Debug)]
pub struct Netns {
    pub name: String,
    path: PathBuf,
    handle: Arc<File>,
}

impl Netns {
    /// Makes it, brings `lo` up and turns off what would slow a test down (duplicate address detection).
    ///
    /// # Errors
    /// Not root, or the kernel's.
    pub fn create(what: &str) -> Result<Self> {
        let name = unique(what);
        fs::create_dir_all(DIRECTORY)?;
        let path = Path::new(DIRECTORY).join(&name);
        File::create(&path).with_context(|| format!("cannot create {}: run as root", path.display()))?;
        // A thread of its own, since the namespace is the thread's: it ends there.
        let made = thread::scope(|scope| scope.spawn(|| pin_new_namespace(&path)).join());
        match made {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                drop(fs::remove_file(&path));
                return Err(error).with_context(|| format!("network namespace {name}: root and CAP_SYS_ADMIN needed"));
            }
            Err(_) => bail!("the thread that makes network namespace {name} panicked"),
        }
        let handle = Arc::new(File::open(&path)?);
        let netns = Self { name, path, handle };
        netns.ip(&["link set lo up"])?;
        Ok(netns)
    }

    /// To hand to a child that shall live here.
    #[must_use]
    pub fn handle(&self) -> Arc<File> {
        Arc::clone(&self.handle)
    }

    /// Runs `work` on a thread inside the namespace.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    ///
    /// # Panics
    /// If `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(self.handle.as_fd(), CloneFlags::CLONE_NEWNET)
                        .with_context(|| format!("cannot enter network namespace {}", self.name))?;
                    Ok(work())
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs commands of iproute2 inside, all in one process.
    ///
    /// # Errors
    /// What `ip` says of the first that fails.
    pub fn ip(&self, commands: &[impl AsRef<str>]) -> Result<()> {
        self.batch("ip", commands)
    }

    /// As [`Netns::ip`], of `tc`.
    ///
    /// # Errors
    /// What `tc` says of the first that fails.
    pub fn tc(&self, commands: &[impl AsRef<str>]) -> Result<()> {
        self.batch("tc", commands)
    }

    fn batch(&self, program: &str, commands: &[impl AsRef<str>]) -> Result<()> {
        let mut child = Command::new(program)
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run `{program}`: install iproute2"))?;
        let script: String = commands.iter().flat_map(|c| [c.as_ref(), "\n"]).collect();
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(script.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("{program} -n {}: {}\n{script}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Waits until an address that was added is one that the namespace answers to: the kernel makes its route later, and
    /// until then takes packets to it for a neighbour's.
    ///
    /// # Errors
    /// If that takes too long.
    pub fn wait_for_address(&self, address: Ipv6Addr) -> Result<()> {
        // As the kernel prints it (net/ipv6/route.c, `rt6_info_route`): destination, then its prefix length, both in hex.
        let route = format!("{:032x} 80 ", address.to_bits());
        let deadline = Instant::now() + Duration::from_secs(10);
        self.run(|| {
            while !fs::read_to_string("/proc/thread-self/net/ipv6_route")?.contains(&route) {
                ensure!(Instant::now() < deadline, "{address} has no route of its own in {}", self.name);
                thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        })?
    }

    /// Sets variables under /proc/sys/net, as in `("ipv4/ip_forward", "1")`.
    ///
    /// # Errors
    /// Names the variable that could not be written.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (name, value) in settings {
                fs::write(format!("/proc/sys/net/{name}"), value).with_context(|| format!("net/{name} = {value}"))?;
            }
            Ok(())
        })?
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn pin_new_namespace(path: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("unshare")?;
    mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .context("bind mount")?;
    for family in ["all", "default"] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{family}/accept_dad"), "0")?;
        // Optimistic or not, an address that waits for detection refuses the first packets of a test.
        fs::write(format!("/proc/sys/net/ipv6/conf/{family}/dad_transmits"), "0")?;
        fs::write(format!("/proc/sys/net/ipv4/conf/{family}/rp_filter"), "0")?;
    }
    Ok(())
}

fn remove(path: &Path) {
    // Best effort: whatever fails here is found by the next `sweep`.
    let _ = umount2(path, MntFlags::MNT_DETACH);
    drop(fs::remove_file(path));
}

/// Removes the namespaces of harness processes that are gone (killed before they could clean up).
pub fn sweep() {
    for entry in fs::read_dir(DIRECTORY).into_iter().flatten().flatten() {
        if crate::place::owner_is_gone(&entry.file_name().to_string_lossy()) {
            remove(&entry.path());
        }
    }
}
