//! Where is bpf-linker, and which LLVM does it speak?

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::detect::output;

/// The version that `cargo xtask setup` installs.
pub const LINKER_VERSION: &str = "0.13.0";

const NAME: &str = "bpf-linker";

/// On PATH, or where `cargo install` puts it: a build script started by an editor often lacks that directory.
pub(crate) fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|directory| directory.join(NAME))
        .find(|candidate| candidate.is_file())
}

/// The LLVM that the linker is linked against; `None` when it carries one inside.
pub(crate) fn llvm_major(linker: &Path) -> Option<u32> {
    libllvm_major(&output(Command::new("ldd").arg(linker))?)
}

/// Reads `libLLVM.so.22.1 => ...` and the older `libLLVM-19.so => ...`.
fn libllvm_major(ldd: &str) -> Option<u32> {
    let name = ldd.lines().find_map(|line| line.trim().strip_prefix("libLLVM"))?;
    let digits: String = name.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::libllvm_major;

    #[test]
    fn the_version_is_read_from_either_form_of_the_librarys_name() {
        assert_eq!(libllvm_major("\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x7f)"), Some(22));
        assert_eq!(libllvm_major("\tlibLLVM-19.so => /usr/lib/libLLVM-19.so (0x7f)"), Some(19));
    }

    #[test]
    fn a_static_linker_says_nothing() {
        assert_eq!(libllvm_major("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)"), None);
    }
}
