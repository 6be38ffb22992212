//! What it takes to build for arm64 on another machine, and to boot there: Debian's packages of that architecture, unpacked
//! below `target/vm/arm64/`. This machine's own apt and dpkg do not learn of the architecture.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use millrace_ebpf_build::DEBIAN_RUSTC;

use super::machine::Platform;
use crate::{apt::Apt, command, debian, workspace};

/// Debian's compiler, whose standard library Debian has for arm64, too. rustup's would come from elsewhere.
pub(crate) const COMPILER: &str = "rustc-web";

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// busybox, `ip` and `tc`, and all that the latter two load.
const USERLAND: [&str; 11] = [
    "busybox-static",
    "iproute2",
    "libbpf1",
    "libbsd0",
    "libc6",
    "libcap2",
    "libelf1",
    "libmd0",
    "libmnl0",
    "libxtables12",
    "zlib1g",
];

fn directory() -> PathBuf {
    workspace::target().join("vm/arm64")
}

/// An apt that knows of no other architecture.
pub(super) fn apt() -> Result<Apt> {
    let architecture = Platform::Arm64.architecture();
    Apt::apart(
        &directory(),
        &[format!("APT::Architecture={architecture}"), format!("APT::Architectures={architecture}")],
    )
}

/// Where the machine's programs lie unpacked.
pub(super) fn userland() -> Result<PathBuf> {
    apt()?.unpacked(&USERLAND, directory().join("userland"))
}

/// The cargo that runs this xtask, with a verb and Debian's compiler, for arm64. What it builds is static: no library of the
/// machine's has to be as new as what it was linked with.
pub(super) fn cargo(verb: &str) -> Result<Command> {
    let version = debian::version(COMPILER).with_context(|| format!("{COMPILER} is not installed"))?;
    let library = format!("libstd-rust-web-dev={version}");
    let root = apt()?.unpacked(&[&library], directory().join(format!("rust-{version}"))).with_context(|| {
        format!("no {library} for arm64: is there a newer one? `apt-get install --only-upgrade {COMPILER}`")
    })?;
    let mut command = command::cargo(verb);
    command.args(["--target", TARGET, "--target-dir"]).arg(workspace::target().join("arm64"));
    let flags = [
        format!("--sysroot={}", root.join("usr").display()),
        "-Clinker=aarch64-linux-gnu-gcc".to_owned(),
        "-Ctarget-feature=+crt-static".to_owned(),
    ];
    // Joined by the separator that this variable asks for, so that paths may hold spaces.
    command.env("RUSTC", DEBIAN_RUSTC).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    Ok(command)
}
