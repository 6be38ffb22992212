//! Which tool chain does this machine have? rustup's nightly first (a developer's laptop), Debian's compiler second
//! (a fresh server): both need the sources of `core`, and a bpf-linker that speaks the compiler's LLVM.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{linker, missing::Missing};

/// Debian's compiler: stable, so it is told to act as a nightly one.
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// What compiles and links the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolChain {
    pub compiler: Compiler,
    pub linker: PathBuf,
    /// As the compiler names it: `rustc 1.96.0 (ac68faa20 2026-05-25)`.
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// `rustup run nightly cargo`.
    RustupNightly,
    /// Any cargo, with this compiler.
    Plain(PathBuf),
}

/// What one compiler says of itself.
struct Found {
    compiler: Compiler,
    version: String,
    llvm_major: Option<u32>,
    has_sources: bool,
}

/// Looks for a complete tool chain.
///
/// # Errors
/// Everything that stands in the way of the nearest one, with what to do about it.
pub fn detect() -> Result<ToolChain, Missing> {
    let candidates: Vec<Found> = [nightly(), debian()].into_iter().flatten().collect();
    let linker = linker::find();
    let linker_llvm = linker.as_deref().and_then(linker::llvm_major);
    choose(&candidates, linker, linker_llvm)
}

/// The first candidate that is complete; else what is missing.
fn choose(candidates: &[Found], linker: Option<PathBuf>, linker_llvm: Option<u32>) -> Result<ToolChain, Missing> {
    let complete: Vec<&Found> = candidates.iter().filter(|found| found.has_sources).collect();
    let Some(first) = complete.first() else {
        return Err(Missing::Compiler { nightly_without_sources: !candidates.is_empty(), linker: linker.is_none() });
    };
    let Some(linker) = linker else {
        return Err(Missing::Linker { compiler: first.version.clone(), llvm: first.llvm_major });
    };
    // A linker that carries its LLVM inside does not say which: it gets the benefit of the doubt.
    let agrees = |found: &&&Found| match (found.llvm_major, linker_llvm) {
        (Some(compiler), Some(linker)) => compiler == linker,
        _ => true,
    };
    match complete.iter().find(agrees) {
        Some(found) => Ok(ToolChain { compiler: found.compiler.clone(), linker, version: found.version.clone() }),
        None => Err(Missing::SameLlvm {
            compiler: first.version.clone(),
            compiler_llvm: first.llvm_major.unwrap_or_default(),
            linker,
            linker_llvm: linker_llvm.unwrap_or_default(),
        }),
    }
}

fn nightly() -> Option<Found> {
    let rustc = |args: &[&str]| {
        let mut command = Command::new("rustup");
        // A probe must not download a tool chain.
        command.args(["run", "nightly", "rustc"]).args(args).env("RUSTUP_AUTO_INSTALL", "0");
        output(&mut command)
    };
    let (version, sysroot) = (rustc(&["-vV"])?, rustc(&["--print", "sysroot"])?);
    Some(found(Compiler::RustupNightly, &version, &sysroot))
}

fn debian() -> Option<Found> {
    if !Path::new(DEBIAN_RUSTC).exists() {
        return None;
    }
    let rustc = |args: &[&str]| output(Command::new(DEBIAN_RUSTC).args(args));
    let (version, sysroot) = (rustc(&["-vV"])?, rustc(&["--print", "sysroot"])?);
    let found = found(Compiler::Plain(PathBuf::from(DEBIAN_RUSTC)), &version, &sysroot);
    // Debian 12's own compiler, 1.63, is no candidate: its LLVM writes no BTF that a kernel accepts.
    (found.llvm_major? >= OLDEST_LLVM).then_some(found)
}

/// The oldest LLVM that the pinned bpf-linker can be built with.
const OLDEST_LLVM: u32 = 21;

fn found(compiler: Compiler, version: &str, sysroot: &str) -> Found {
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    Found {
        compiler,
        version: version.lines().next().unwrap_or_default().to_owned(),
        llvm_major: version.lines().find_map(|line| line.strip_prefix("LLVM version: ")).and_then(major),
        has_sources: library.join("core/src/lib.rs").exists(),
    }
}

/// The number before the first dot.
fn major(version: &str) -> Option<u32> {
    version.trim().split('.').next()?.parse().ok()
}

/// Standard output of a command that succeeded.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(compiler: Compiler, llvm: u32, has_sources: bool) -> Found {
        Found { compiler, version: "rustc 1.97.0-nightly".into(), llvm_major: Some(llvm), has_sources }
    }

    fn debian_rustc() -> Compiler {
        Compiler::Plain(PathBuf::from(DEBIAN_RUSTC))
    }

    #[test]
    fn a_complete_nightly_is_preferred_to_debians_compiler() {
        let both = [candidate(Compiler::RustupNightly, 22, true), candidate(debian_rustc(), 22, true)];
        let chosen = choose(&both, Some("bpf-linker".into()), Some(22)).expect("a complete tool chain");
        assert_eq!(chosen.compiler, Compiler::RustupNightly);
    }

    #[test]
    fn a_nightly_without_rust_src_is_passed_over() {
        let both = [candidate(Compiler::RustupNightly, 22, false), candidate(debian_rustc(), 22, true)];
        let chosen = choose(&both, Some("bpf-linker".into()), Some(22)).expect("Debian's compiler");
        assert_eq!(chosen.compiler, debian_rustc());
    }

    #[test]
    fn a_compiler_that_the_linker_cannot_read_is_passed_over() {
        let both = [candidate(Compiler::RustupNightly, 23, true), candidate(debian_rustc(), 22, true)];
        let chosen = choose(&both, Some("bpf-linker".into()), Some(22)).expect("Debian's compiler");
        assert_eq!(chosen.compiler, debian_rustc());
    }

    #[test]
    fn two_llvms_that_differ_are_named_with_the_remedy() {
        let only = [candidate(Compiler::RustupNightly, 23, true)];
        let missing = choose(&only, Some("bpf-linker".into()), Some(22)).expect_err("no pair fits");
        let message = missing.to_string();
        assert!(message.contains("LLVM 23") && message.contains("LLVM 22"), "{message}");
        assert!(message.contains("cargo xtask setup"), "{message}");
    }

    #[test]
    fn a_machine_with_nothing_is_told_to_run_setup() {
        let missing = choose(&[], None, None).expect_err("nothing is there");
        assert_eq!(missing, Missing::Compiler { nightly_without_sources: false, linker: true });
        assert!(missing.to_string().contains("cargo xtask setup"));
        assert!(!missing.to_string().contains('\n'));
    }

    #[test]
    fn a_linker_that_hides_its_llvm_is_tried() {
        let only = [candidate(Compiler::RustupNightly, 23, true)];
        assert!(choose(&only, Some("bpf-linker".into()), None).is_ok());
    }
}
