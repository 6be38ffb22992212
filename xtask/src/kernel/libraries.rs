//! Shared libraries of a program, as the dynamic linker finds them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// Directories of a system of another architecture, below its root.
const DIRECTORIES: [&str; 3] = ["lib", "lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu"];

/// All libraries of a system that lies in `root`, which this machine's dynamic linker cannot be asked about; relative to it.
pub(crate) fn below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut libraries = Vec::new();
    for directory in DIRECTORIES {
        let entries = fs::read_dir(root.join(directory))
            .with_context(|| format!("cannot list {directory} in {}", root.display()))?;
        for entry in entries {
            let path = entry?.path();
            let is_library = path.is_file() && path.to_string_lossy().contains(".so");
            libraries.extend(path.strip_prefix(root).ok().filter(|_| is_library).map(Path::to_owned));
        }
    }
    Ok(libraries)
}

/// Every library of `program`, and the dynamic linker itself; none when it is static or another architecture's.
pub(crate) fn of(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
    // ldd fails on what this machine's dynamic linker does not load.
    if !output.status.success() {
        return Ok(Vec::new());
    }
    parse(&String::from_utf8_lossy(&output.stdout)).with_context(|| program.display().to_string())
}

fn parse(ldd: &str) -> Result<Vec<PathBuf>> {
    let mut libraries = Vec::new();
    for line in ldd.lines().map(str::trim) {
        if line.ends_with("=> not found") {
            bail!("a library is missing: {line}");
        }
        // `libc.so.6 => /lib/libc.so.6 (0x...)`, `/lib64/ld-linux-x86-64.so.2 (0x...)`, `linux-vdso.so.1 (0x...)`
        let path = line.split_once("=> ").map_or(line, |(_, path)| path);
        if let Some(path) = path.split_whitespace().next().filter(|path| path.starts_with('/')) {
            libraries.push(PathBuf::from(path));
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn libraries_and_the_dynamic_linker_are_found_and_the_vdso_is_not_a_file() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found = parse(ldd).expect("all libraries are there");
        assert_eq!(
            found,
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(std::path::PathBuf::from)
        );
    }

    #[test]
    fn a_library_that_is_missing_is_named() {
        assert!(parse("\tlibz.so.1 => not found\n").expect_err("libz is missing").to_string().contains("libz.so.1"));
    }
}
