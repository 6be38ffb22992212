//! A directory of tables: which there are, and of which kind. A file that is neither kind is an error, never passed over
//! in silence.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// What a table is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Which endpoints a node chooses: cases with `endpoints`, and sets to expect.
    Selection,
    /// What becomes of packets: cases with `from` and `dst`.
    Flow,
}

/// Tables of either kind.
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    tables: Vec<(Kind, PathBuf)>,
}

impl Directory {
    /// The project's own tables, or those of `MILLRACE_CONFORMANCE`: cargo runs a test in its package's directory, and
    /// whoever names one means the workspace's.
    pub(crate) fn named() -> Result<Self> {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        Self::read(root.join(env::var_os("MILLRACE_CONFORMANCE").unwrap_or_else(|| "tests/conformance".into())))
    }

    fn read(path: PathBuf) -> Result<Self> {
        let entries = fs::read_dir(&path).with_context(|| format!("no tables in {}", path.display()))?;
        let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"));
        files.sort();
        ensure!(!files.is_empty(), "no *.yaml in {}: nothing would be tested", path.display());
        let tables = files.into_iter().map(|file| Ok((kind(&file)?, file))).collect::<Result<_>>()?;
        Ok(Self { path, tables })
    }

    /// Its recorded results are in the documents.
    pub(crate) fn is_own(&self) -> bool {
        env::var_os("MILLRACE_CONFORMANCE").is_none()
    }

    /// The tables of one kind. Of the project's own there is always one; where another directory has none, that is said.
    pub(crate) fn tables(&self, wanted: Kind) -> Result<Vec<&Path>> {
        let of_kind = self.tables.iter().filter(|(kind, _)| *kind == wanted);
        let files: Vec<&Path> = of_kind.map(|(_, file)| file.as_path()).collect();
        if files.is_empty() {
            ensure!(!self.is_own(), "the project's own tables of the kind {wanted:?} are gone");
            println!("NOT RUN: {} has no table of the kind {wanted:?}", self.path.display());
        }
        Ok(files)
    }
}

fn kind(file: &Path) -> Result<Kind> {
    let named = || file.display().to_string();
    let table: Value = serde_saphyr::from_str(&fs::read_to_string(file).with_context(named)?).with_context(named)?;
    let case =
        table["cases"].as_array().and_then(|cases| cases.first()).with_context(|| format!("{}: no cases", named()))?;
    match (case["endpoints"].is_array(), case.get("from").is_some()) {
        (true, false) => Ok(Kind::Selection),
        (false, true) => Ok(Kind::Flow),
        _ => bail!("{}: its cases are of no kind that this runner knows (`endpoints`, or `from`)", named()),
    }
}
