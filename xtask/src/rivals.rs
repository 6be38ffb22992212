//! The rivals' newest tools: iptables and nft of Debian's newest stable release, whatever this machine runs. They are
//! unpacked below `target/`, with the libraries that they were built for, never installed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::Apt,
    command::{capture, exists, program},
    debian, workspace,
};

const RELEASE: &str = "trixie";

/// The tools, and all that they load.
const PACKAGES: [&str; 17] = [
    "iptables",
    "libbsd0",
    "libc6",
    "libedit2",
    "libgmp10",
    "libip4tc2",
    "libip6tc2",
    "libjansson4",
    "libmd0",
    "libmnl0",
    "libnetfilter-conntrack3",
    "libnfnetlink0",
    "libnftables1",
    "libnftnl11",
    "libtinfo6",
    "libxtables12",
    "nftables",
];

/// Where they lie; fetched once. `None`, said aloud: not to be had, and the installed ones have to do.
pub(crate) fn newest() -> Option<PathBuf> {
    let found = unpacked(&workspace::target().join("rivals"));
    found.inspect_err(|error| println!("setup: iptables and nft of Debian's {RELEASE} are not to be had, the installed ones are measured: {error:#}")).ok()
}

fn unpacked(directory: &Path) -> Result<PathBuf> {
    let root = directory.join(RELEASE);
    if root.exists() {
        return Ok(root);
    }
    if !exists("apt-get") {
        bail!("this machine has no apt-get");
    }
    println!("setup: fetching iptables and nft of Debian's {RELEASE} ...");
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let sources = directory.join("sources.list");
    fs::write(&sources, format!("deb {} {RELEASE} main\n", mirror()?))?;
    let options = [format!("Dir::Etc::sourcelist={}", sources.display()), "Dir::Etc::sourceparts=-".to_owned()];
    Apt::apart(directory, &options)?.unpacked(&PACKAGES, root)
}

/// The mirror that this machine's own packages come from.
fn mirror() -> Result<String> {
    debian::refresh()?;
    let targets =
        capture(program("apt-get").args(["indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]))?;
    let own = targets.lines().find_map(|line| line.strip_prefix("Debian "));
    own.map(str::to_owned).context("this machine's packages do not come from Debian")
}
