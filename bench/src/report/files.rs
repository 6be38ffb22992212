//! Where reports go.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

/// Writes each, with the directories above it, and says so.
///
/// # Errors
/// Names the file that cannot be written.
pub(crate) fn put(files: impl IntoIterator<Item = (PathBuf, String)>) -> Result<()> {
    for (path, text) in files {
        if let Some(above) = path.parent() {
            fs::create_dir_all(above).with_context(|| format!("cannot create {}", above.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("bench: wrote {}", path.display());
    }
    Ok(())
}
