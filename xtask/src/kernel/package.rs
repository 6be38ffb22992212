//! Debian's kernel packages: which one is the newest of a series, and where it lies unpacked. Nothing is installed.

use std::{
    cmp::Ordering,
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    command::{capture, program},
    debian,
};

/// A kernel, unpacked.
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    /// `lib/modules/<release>`
    pub(crate) modules: PathBuf,
}

/// Finds the newest package of a series and unpacks it below `directory`, unless it is there already.
pub(crate) fn unpacked(version: &str, directory: &Path) -> Result<Kernel> {
    let package = newest(version)?;
    let root = directory.join(&package);
    let release = package.trim_start_matches("linux-image-").to_owned();
    let kernel = Kernel {
        image: root.join("boot").join(format!("vmlinuz-{release}")),
        modules: root.join("lib/modules").join(&release),
    };
    if !kernel.image.exists() {
        println!("fetching {package} ...");
        let download = directory.join("download");
        let _ = fs::remove_dir_all(&download);
        fs::create_dir_all(&download)?;
        capture(program("apt-get").args(["download", &package]).current_dir(&download))?;
        debian::unpack(&download, &root)?;
    }
    Ok(kernel)
}

fn newest(version: &str) -> Result<String> {
    let search = || -> Result<Option<String>> {
        let pattern = format!(r"^linux-image-{}\.[0-9][^-]*(-[0-9]+)?-cloud-{}$", version.replace('.', r"\."), arch());
        let found = capture(program("apt-cache").args(["search", "--names-only", &pattern]))?;
        let names = found.lines().filter_map(|line| line.split_whitespace().next());
        Ok(names.max_by(|a, b| by_version(a, b)).map(str::to_owned))
    };
    if let Some(package) = search()? {
        return Ok(package);
    }
    // A fresh machine has no lists of packages yet.
    debian::refresh()?;
    search()?.with_context(|| {
        format!("apt offers no cloud kernel {version}: add the Debian release that has it (and its security updates)")
    })
}

/// Debian's name of this machine's architecture.
fn arch() -> &'static str {
    match env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        other => other,
    }
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
