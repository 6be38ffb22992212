//! Debian's kernel packages: which one is the newest of a series, and where it lies unpacked. Nothing is installed.

use std::{
    cmp::Ordering,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::machine::Machine;
use crate::apt::Apt;

/// A kernel, unpacked.
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    /// `lib/modules/<release>`
    pub(crate) modules: PathBuf,
}

/// Finds the newest package of a machine's series and unpacks it below `directory`, unless it is there already.
pub(crate) fn unpacked(machine: &Machine, directory: &Path) -> Result<Kernel> {
    let apt = machine.platform.apt()?;
    let package = newest(&apt, machine)?;
    let root = directory.join(&package);
    if !root.exists() {
        println!("fetching {package} ...");
    }
    let root = apt.unpacked(&[&package], root)?;
    let release = package.trim_start_matches("linux-image-");
    Ok(Kernel {
        image: root.join("boot").join(format!("vmlinuz-{release}")),
        modules: root.join("lib/modules").join(release),
    })
}

fn newest(apt: &Apt, machine: &Machine) -> Result<String> {
    let (series, architecture) = (machine.series, machine.platform.architecture());
    let pattern = format!(r"^linux-image-{}\.[0-9][^-]*(-[0-9]+)?-cloud-{architecture}$", series.replace('.', r"\."));
    let found = apt.search(&pattern)?.into_iter().max_by(|a, b| by_version(a, b));
    found.with_context(|| {
        format!("apt offers no cloud kernel {series} for {architecture}: add the Debian release that has it (and its security updates)")
    })
}

/// Compares the numbers in two names, one by one: 6.1.0-9 is older than 6.1.0-50.
fn by_version(a: &str, b: &str) -> Ordering {
    let numbers = |name: &str| -> Vec<u64> {
        name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
    };
    numbers(a).cmp(&numbers(b))
}

#[cfg(test)]
mod tests {
    use super::by_version;

    #[test]
    fn the_newest_kernel_is_found_by_number_and_not_by_letter() {
        let names =
            ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-50-cloud-amd64"];
        assert_eq!(names.into_iter().max_by(|a, b| by_version(a, b)), Some(names[1]));
        let names = ["linux-image-6.12.117+deb12-cloud-amd64", "linux-image-6.12.90+deb12-cloud-amd64"];
        assert_eq!(names.into_iter().max_by(|a, b| by_version(a, b)), Some(names[0]));
    }
}
