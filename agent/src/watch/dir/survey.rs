//! Which manifest files lie at a path or below it, and in which state.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Changes whenever the file's contents do, but for two writes within one tick of the file system's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Parsed in a millisecond or two.
    pub(super) const fn is_small(&self) -> bool {
        matches!(self.size, 1..=16_384)
    }
}

impl From<&Metadata> for Stamp {
    fn from(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Survey {
    /// In the order of their paths.
    pub files: BTreeMap<Arc<Path>, Stamp>,
    /// What cannot be looked at; what lies below it is unknown rather than gone.
    pub hidden: Vec<(PathBuf, io::Error)>,
}

impl Survey {
    /// Looks at `path`, be it a file, a directory or nothing. `enter` is called for each directory before it is read, so
    /// that a watch set there misses nothing. Only the `root` may be a link to a directory.
    pub(super) fn of(path: &Path, root: &Path, enter: &mut impl FnMut(&Path)) -> Self {
        let mut survey = Self::default();
        if path != root && is_linked_directory(path) {
            return survey;
        }
        if let Err(error) = survey.visit(path, enter)
            && error.kind() != ErrorKind::NotFound
        {
            survey.hidden.push((path.to_owned(), error));
        }
        survey
    }

    fn visit(&mut self, path: &Path, enter: &mut impl FnMut(&Path)) -> io::Result<()> {
        let found = fs::metadata(path)?;
        if found.is_file() && is_manifest(path) {
            self.files.insert(path.into(), Stamp::from(&found));
        } else if found.is_dir() {
            enter(path);
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                if !is_visible(entry.file_name().as_encoded_bytes()) {
                    continue;
                }
                let path = entry.path();
                if is_linked_directory(&path) {
                    continue;
                }
                match self.visit(&path, enter) {
                    Err(error) if error.kind() != ErrorKind::NotFound => self.hidden.push((path, error)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Whether the survey could have seen the file, had it been there.
    pub(super) fn covers(&self, file: &Path) -> bool {
        !self.hidden.iter().any(|(path, _)| file.starts_with(path))
    }
}

/// Editors and the kubelet keep their own files under names with a dot.
pub(super) fn is_visible(name: &[u8]) -> bool {
    !name.starts_with(b".")
}

/// It could lead around in a circle, and a directory that is watched under two names is lost when one of them goes.
fn is_linked_directory(path: &Path) -> bool {
    let linked = path.is_symlink() && path.is_dir();
    if linked {
        tracing::debug!(path = %path.display(), "a link to a directory is not followed");
    }
    linked
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}
