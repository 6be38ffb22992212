//! Shared libraries of a program, as the dynamic linker finds them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// Every library of `program`, and the dynamic linker itself; none when it is static.
pub(crate) fn of(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
    // ldd fails on a static program: it has no libraries.
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
