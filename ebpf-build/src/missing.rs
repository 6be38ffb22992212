//! What stands between this machine and an eBPF object, in one line, with the remedy.

use std::{error::Error, fmt, path::PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No compiler that has the sources of `core`.
    Compiler { nightly_without_sources: bool, linker: bool },
    /// A compiler, but nothing to link with.
    Linker { compiler: String, llvm: Option<u32> },
    /// Both, but the linker cannot read what the compiler writes.
    SameLlvm { compiler: String, compiler_llvm: u32, linker: PathBuf, linker_llvm: u32 },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler { nightly_without_sources, linker } => {
                f.write_str(match nightly_without_sources {
                    true => "no compiler for eBPF: the compilers found here lack the sources of core (rust-src)",
                    false => "no compiler for eBPF: neither rustup's nightly with rust-src nor Debian's rustc-web",
                })?;
                if *linker {
                    f.write_str(", and no bpf-linker")?;
                }
            }
            Self::Linker { compiler, .. } => write!(f, "no bpf-linker on PATH or in ~/.cargo/bin for {compiler}")?,
            Self::SameLlvm { compiler, compiler_llvm, linker, linker_llvm } => write!(
                f,
                "{compiler} writes LLVM {compiler_llvm}, {} reads LLVM {linker_llvm}: they must be the same",
                linker.display()
            )?,
        }
        f.write_str("; run `cargo xtask setup`")
    }
}

impl Error for Missing {}
