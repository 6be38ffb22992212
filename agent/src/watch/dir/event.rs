//! What a file system event means for the manifests: where to look again.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use notify::{
    Event, EventKind,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode},
};

use super::survey::is_visible;

/// A place to look at.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Look {
    pub path: PathBuf,
    /// The event itself said that it is gone: not merely that nothing is there now.
    pub gone: bool,
}

impl Look {
    /// `None`: nothing that matters. A file counts when its writer closes it, so that it is never seen half written, and
    /// never later than that.
    pub(super) fn after(event: &Event, root: &Path) -> Option<Self> {
        if event.need_rescan() {
            return Some(Self { path: root.to_owned(), gone: false });
        }
        let path = event.paths.first()?;
        let gone = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Modify(ModifyKind::Metadata(_)) => {
                false
            }
            EventKind::Create(CreateKind::File) if !is_complete_when_created(path) => return None,
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => false,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => true,
            _ => return None,
        };
        if root.starts_with(path) {
            // The directory itself, or one above it.
            return Some(Self { path: root.to_owned(), gone });
        }
        let name = path.strip_prefix(root).ok()?.file_name()?.as_encoded_bytes();
        if name.starts_with(b"..") {
            // The kubelet swaps the contents of a mounted ConfigMap by renaming the link `..data`, through which all
            // files of the directory go: <https://kubernetes.io/docs/concepts/configuration/configmap/>.
            return Some(Self { path: path.parent()?.to_owned(), gone: false });
        }
        is_visible(name).then(|| Self { path: path.clone(), gone })
    }
}

/// Links come with their contents; no writer will close them.
fn is_complete_when_created(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|created| created.is_symlink() || created.nlink() > 1)
}
