//! `cargo xtask setup`: what is missing on this machine? Says it in one line, installs it, and is done in a blink
//! when nothing is.

use anyhow::{Context as _, Result, bail};
use millrace_ebpf_build::{LINKER_VERSION, Missing, ToolChain, detect};

use crate::{
    command::{cargo, exists, program, run},
    debian,
    kernel::{ARM64_COMPILER, Machine, Platform},
};

/// A program (or a file, by its path) that something of ours uses, and Debian's package that has it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

/// Namespaces and devices of tests, demo and benchmarks.
const NETWORK: [Tool; 2] = [tool("ip", "iproute2"), tool("tc", "iproute2")];

/// What millrace is measured against.
const RIVALS: [Tool; 4] =
    [tool("iptables-nft", "iptables"), tool("nft", "nftables"), tool("ipset", "ipset"), tool("ipvsadm", "ipvsadm")];

/// Virtual machines with other kernels.
const MACHINES: [Tool; 5] = [
    tool("qemu-system-x86_64", "qemu-system-x86"),
    tool("busybox", "busybox-static"),
    tool("cpio", "cpio"),
    tool("xz", "xz-utils"),
    tool("strip", "binutils"),
];

/// One more, of another architecture; binutils come with the compiler.
const ARM64: [Tool; 3] = [
    tool("qemu-system-aarch64", "qemu-system-arm"),
    tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    tool("/usr/aarch64-linux-gnu/lib/libc.a", "libc6-dev-arm64-cross"),
];

/// rustc 1.96 with its sources, and what bpf-linker is built from.
const DEBIAN_TOOL_CHAIN: [&str; 2] = ["rustc-web", "rust-web-src"];

/// The LLVM of Debian's rustc-web.
const DEBIAN_LLVM: u32 = 22;

/// Everything: what `cargo xtask test` needs.
pub(crate) fn everything() -> Result<()> {
    formatter_and_linter()?;
    to_measure()?;
    to_emulate()
}

/// What machines with other kernels need, of this architecture.
pub(crate) fn to_emulate() -> Result<()> {
    tools(&MACHINES, "virtual machines with other kernels")
}

/// What these machines of the kernel matrix need.
pub(crate) fn machines(machines: &[&Machine]) -> Result<()> {
    if machines.iter().all(|machine| machine.platform == Platform::X86) {
        return Ok(());
    }
    let why = "the virtual machine with arm64";
    tools(&ARM64, why)?;
    if debian::version(ARM64_COMPILER).is_none() {
        debian::install(&[ARM64_COMPILER], why)?;
    }
    Ok(())
}

/// What the demo needs.
pub(crate) fn to_run() -> Result<()> {
    to_build()?;
    tools(&NETWORK, "network namespaces")
}

/// What the benchmarks need.
pub(crate) fn to_measure() -> Result<()> {
    to_run()?;
    tools(&RIVALS, "the rivals of the benchmarks")
}

/// What `cargo build` needs. Returns the tool chain.
pub(crate) fn to_build() -> Result<ToolChain> {
    // Each turn removes one obstacle: no compiler, then no linker.
    for _ in 0..3 {
        match detect() {
            Ok(tools) => return Ok(tools),
            Err(missing) => remove(&missing)?,
        }
    }
    detect().context("set-up ran, and the eBPF tool chain is still not complete")
}

fn remove(missing: &Missing) -> Result<()> {
    match missing {
        Missing::Compiler { .. } => debian::install(&DEBIAN_TOOL_CHAIN, "the eBPF programs' compiler").context(
            "elsewhere than on Debian 12: `rustup toolchain install nightly --component rust-src` and `cargo install bpf-linker`",
        ),
        Missing::Linker { compiler, llvm } => linker(llvm.unwrap_or(DEBIAN_LLVM), &format!("no bpf-linker for {compiler}")),
        Missing::SameLlvm { compiler_llvm, .. } => linker(*compiler_llvm, &missing.to_string()),
    }
}

/// Builds bpf-linker against Debian's libraries of one LLVM.
fn linker(llvm: u32, why: &str) -> Result<()> {
    let packages = [
        format!("llvm-{llvm}-dev"),
        format!("libpolly-{llvm}-dev"),
        "libzstd-dev".to_owned(),
        "zlib1g-dev".to_owned(),
        "g++".to_owned(),
    ];
    let prefix = format!("/usr/lib/llvm-{llvm}");
    if !std::path::Path::new(&prefix).join("bin/llvm-config").exists() || !exists("c++") {
        debian::install(&packages.each_ref().map(String::as_str), "bpf-linker")?;
    }
    println!("setup: {why}: building bpf-linker {LINKER_VERSION} for LLVM {llvm} (about a minute) ...");
    run(cargo("install")
        .args(["bpf-linker", "--version", LINKER_VERSION, "--locked", "--force", "--quiet", "--no-default-features"])
        .args(["--features", &format!("llvm-{llvm}")])
        .env("LLVM_PREFIX", &prefix))
}

fn tools(wanted: &[Tool], why: &str) -> Result<()> {
    let mut packages: Vec<&str> = wanted.iter().filter(|tool| !exists(tool.program)).map(|tool| tool.package).collect();
    packages.dedup();
    if packages.is_empty() { Ok(()) } else { debian::install(&packages, why) }
}

/// rustup's minimal profile lacks them.
fn formatter_and_linter() -> Result<()> {
    if exists("cargo-fmt") && exists("cargo-clippy") && works("fmt") && works("clippy") {
        return Ok(());
    }
    if !exists("rustup") {
        bail!("cargo fmt or cargo clippy is missing: install rustfmt and clippy of this tool chain");
    }
    println!("setup: rustfmt or clippy is missing: rustup installs them ...");
    run(program("rustup").args(["component", "add", "rustfmt", "clippy"]))
}

fn works(verb: &str) -> bool {
    cargo(verb).arg("--version").output().is_ok_and(|output| output.status.success())
}
