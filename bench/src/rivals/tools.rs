//! iptables and nft of another Debian release, unpacked somewhere: run by that release's own dynamic loader, with its
//! own libraries, so that nothing is installed and no wrapper costs time.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::error::Error;

/// A directory with `usr/sbin` and `usr/lib/<triplet>`, as `dpkg-deb --extract` leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    programs: PathBuf,
    libraries: PathBuf,
    loader: PathBuf,
}

impl Tools {
    /// # Errors
    /// There is no loader in it.
    pub fn of_release(root: &Path) -> Result<Self, Error> {
        let loaders =
            fs::read_dir(root.join("usr/lib")).into_iter().flatten().flatten().flat_map(|triplet| {
                fs::read_dir(triplet.path()).into_iter().flatten().flatten().map(|entry| entry.path())
            });
        let is_loader =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"));
        let missing = || Error::NoTools { root: root.to_owned() };
        let loader = loaders.filter(is_loader).max().ok_or_else(missing)?;
        let libraries = loader.parent().ok_or_else(missing)?.to_owned();
        Ok(Self { programs: root.join("usr/sbin"), libraries, loader })
    }

    /// The release's program of that name, or the installed one where the release has none.
    pub(super) fn command(&self, program: &str) -> Command {
        let path = self.programs.join(program);
        // A program of ours goes by its path, and was built for this system.
        if program.contains('/') || !path.exists() {
            return Command::new(program);
        }
        let mut command = Command::new(&self.loader);
        // Programs of the family are one executable that goes by its name.
        command.arg("--library-path").arg(&self.libraries).args(["--argv0", program]).arg(path);
        command.env("XTABLES_LIBDIR", self.libraries.join("xtables"));
        command
    }
}
