//! Runs an inner cargo that compiles the programs, apart from the outer one: its own target directory (no deadlock
//! on the lock), and none of the outer one's variables.

use std::{
    env,
    error::Error,
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::detect::{Compiler, ToolChain};

const PACKAGE: &str = "millrace-ebpf";
const BINARY: &str = "millrace";
const TARGET: &str = "bpfel-unknown-none";

/// What the outer cargo may hand to the inner one: where crates come from and how to talk, nothing about how to build.
const KEPT: [&str; 5] = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_TERM_"];

/// Builds the object for a kernel of `arch` (as Rust names it: `x86_64`, `aarch64`) in the directory `out`, and
/// returns its path. The compiler's messages go to standard error.
///
/// # Errors
/// The command that could not be started or failed.
pub fn build(tools: &ToolChain, workspace: &Path, arch: &str, out: &Path) -> Result<PathBuf, BuildError> {
    let mut command = cargo(tools);
    command
        .args(["build", "--release", "--locked", "--package", PACKAGE, "--target", TARGET, "-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(out)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(tools, arch))
        .current_dir(workspace)
        .stdin(Stdio::null())
        // A build script's standard output is a protocol with the outer cargo.
        .stdout(Stdio::null());
    let status = command.status().map_err(|source| BuildError::Start { tools: tools.clone(), source })?;
    if !status.success() {
        return Err(BuildError::Failed { tools: tools.clone() });
    }
    Ok(out.join(TARGET).join("release").join(BINARY))
}

/// Cargo with the right compiler and a clean environment.
fn cargo(tools: &ToolChain) -> Command {
    let mut command = match &tools.compiler {
        Compiler::RustupNightly => {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "cargo"]);
            command
        }
        Compiler::Plain(_) => Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())),
    };
    for (name, _) in env::vars_os().filter(|(name, _)| belongs_to_the_outer_build(name)) {
        command.env_remove(name);
    }
    if let Compiler::Plain(rustc) = &tools.compiler {
        command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
    }
    command
}

fn belongs_to_the_outer_build(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let builds = name.starts_with("CARGO") || name.starts_with("RUSTC") || name.starts_with("RUSTDOC");
    (builds && !KEPT.iter().any(|kept| name.starts_with(kept))) || name == "RUSTFLAGS"
}

/// Joined by the separator that CARGO_ENCODED_RUSTFLAGS asks for, so that paths may hold spaces.
fn rustflags(tools: &ToolChain, arch: &str) -> String {
    [
        // Which registers a kprobe's or a tracepoint's context has: aya-ebpf does not compile without it.
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        format!("-Clinker={}", tools.linker.display()),
        // Maps are defined by their BTF, and the verifier's messages quote source lines from it.
        "-Clink-arg=--btf".to_owned(),
        "-Cdebuginfo=2".to_owned(),
    ]
    .join("\x1f")
}

#[derive(Debug)]
pub enum BuildError {
    /// Cargo itself did not start.
    Start { tools: ToolChain, source: std::io::Error },
    /// The compiler or the linker refused; it has said why.
    Failed { tools: ToolChain },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { tools, source } => {
                write!(f, "cannot start cargo for the eBPF programs with {}: {source}", tools.version)
            }
            Self::Failed { tools } => write!(
                f,
                "the eBPF programs do not build with {} and {}; if the linker is at fault (unknown attribute, invalid \
                 record), its LLVM differs from the compiler's: run `cargo xtask setup`",
                tools.version,
                tools.linker.display()
            ),
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Start { source, .. } => Some(source),
            Self::Failed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::belongs_to_the_outer_build;

    #[test]
    fn the_outer_build_leaves_no_flag_behind() {
        for name in
            ["RUSTC", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_PROFILE_DEV_PANIC"]
        {
            assert!(belongs_to_the_outer_build(name.as_ref()), "{name}");
        }
    }

    #[test]
    fn where_crates_come_from_is_kept() {
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_REGISTRIES_MIRROR_INDEX", "RUSTUP_HOME", "PATH"] {
            assert!(!belongs_to_the_outer_build(name.as_ref()), "{name}");
        }
    }
}
