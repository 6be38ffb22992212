//! Builds the eBPF object and hands its path to `datapath::object`.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use millrace_ebpf_build as ebpf;
use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

fn main() -> ExitCode {
    let tools = match ebpf::detect() {
        Ok(tools) => tools,
        Err(missing) => {
            // One line from cargo, instead of the whole output of a build script that failed.
            println!("cargo::error={missing}");
            return ExitCode::SUCCESS;
        }
    };
    match object(&tools) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

fn object(tools: &ebpf::ToolChain) -> Result<(), Box<dyn Error>> {
    let variable = |name: &str| env::var(name).map_err(|_| format!("cargo did not set {name}"));
    let (out, arch) = (PathBuf::from(variable("OUT_DIR")?), variable("CARGO_CFG_TARGET_ARCH")?);
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = manifest.parent().ok_or("the agent's crate lies in the workspace's root")?;

    for source in ["ebpf", "common", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    let built = ebpf::build(tools, workspace, &arch, &target_directory(&out).join("bpf").join(&arch))?;
    // A copy of this build's own: another profile's build may replace the shared one at any time.
    let object = out.join("millrace.o");
    fs::write(&object, without_dwarf(&fs::read(&built)?)?)?;
    println!("cargo::rustc-env=MILLRACE_EBPF_OBJECT={}", object.display());
    Ok(())
}

/// The object without what only a debugger reads: three quarters of it, which each agent would carry and parse. The BTF
/// stays, with the source lines that the verifier quotes.
fn without_dwarf(object: &[u8]) -> Result<Vec<u8>, object::build::Error> {
    let mut elf = Builder::read(object)?;
    for section in &mut elf.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    elf.delete_orphans();
    // The linker wrote the sections' names among the symbols'.
    let names = elf.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    elf.write(&mut stripped)?;
    Ok(stripped)
}

/// The outer build's target directory, shared by its profiles so that `core` is compiled once. Cargo marks it.
fn target_directory(out: &Path) -> &Path {
    out.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists()).unwrap_or(out)
}
