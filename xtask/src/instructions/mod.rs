//! `cargo xtask instructions`: what does a connection cost, where no noise can touch the figure? Counts instructions in a
//! virtual machine, beside millrace's rivals, and writes docs/instructions.md; `cargo xtask test` counts what is
//! millrace's again and compares.

mod compare;
mod count;
mod versions;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};

use self::count::Count;
use crate::{document, kernel, kernel::Task, rivals, setup, workspace};

/// The names of the tables: the counts, and who was counted.
const TABLE: &str = "instructions";
const VERSIONS: &str = "versions";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only millrace's ways, compared with the record, as `cargo xtask test` does it; nothing is written
    #[arg(long)]
    check: bool,
}

pub(crate) fn instructions(arguments: &Arguments) -> Result<()> {
    setup::everything()?;
    if arguments.check { check() } else { record() }
}

fn record() -> Result<()> {
    let said = kernel::count(Task::CountAll { rivals: rivals::newest().as_deref() })?;
    let counted = parsed(&said)?;
    let path = path();
    let mut text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for (name, table) in [(TABLE, count::rendered(&counted)?), (VERSIONS, versions::rendered(&said)?)] {
        text = document::with_table(&text, name, &table).with_context(|| format!("in {}", path.display()))?;
    }
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written: {}", path.display());
    Ok(())
}

/// # Errors
/// A connection costs more, as a ratio to the direct path, than is recorded.
pub(crate) fn check() -> Result<()> {
    let counted = parsed(&kernel::count(Task::Count)?)?;
    let path = path();
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let recorded = count::read(document::table(&text, TABLE).with_context(|| format!("in {}", path.display()))?)?;
    print!("{}", count::rendered(&counted)?);
    let dearer = compare::dearer(&recorded, &counted);
    if dearer.is_empty() {
        return Ok(());
    }
    bail!(
        "{}\n({} has the record; is it meant to be so? `cargo xtask instructions` records it)",
        dearer.join("\n"),
        path.display()
    )
}

fn parsed(said: &[String]) -> Result<Vec<Count>> {
    said.iter().filter(|line| versions::said(line).is_none()).map(|line| Count::said(line)).collect()
}

fn path() -> PathBuf {
    workspace::root().join("docs/instructions.md")
}
