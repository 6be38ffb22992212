//! Keeps the socket hooks away from the pods that are chosen: their cgroups come and go with them.

mod notes;

use std::{future::pending, io, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use tokio::{sync::watch, time::sleep};

use self::notes::Notes;
use crate::{
    datapath::{PacketTables, PodCgroupTree, SetupError},
    diff::{ChosenPods, PacketPlan, PodCgroups, plan_per_packet},
};

/// Between an attempt that left something to do and the next.
const RETRY: Duration = Duration::from_secs(5);

/// Of the pods below `root`. Ends when nobody decides any more.
///
/// # Errors
/// When the kernel no longer tells of cgroups.
pub(super) async fn follow(
    mut chosen: watch::Receiver<ChosenPods>,
    root: PathBuf,
    mut tables: PacketTables,
) -> Result<()> {
    let mut cgroups = Cgroups { root, tree: None };
    let mut notes = Notes::default();
    loop {
        let wanted = chosen.borrow_and_update().clone();
        let done = match act(&wanted, &mut cgroups, &mut tables) {
            Ok(plan) => notes.take(&wanted, &plan),
            Err(error) => notes.failed(&error),
        };
        tokio::select! {
            changed = chosen.changed() => if changed.is_err() { return Ok(()) },
            told = cgroups.changed() => told.context("the kernel tells nothing of cgroups any more")?,
            () = sleep(RETRY), if !done => {}
        }
    }
}

fn act(wanted: &ChosenPods, cgroups: &mut Cgroups, tables: &mut PacketTables) -> Result<PacketPlan> {
    let seen = match (wanted.pods.is_empty(), wanted.complete) {
        (true, true) => cgroups.forget(),
        // Of what an earlier agent left, nothing is known yet.
        (true, false) => return Ok(PacketPlan::default()),
        (false, _) => cgroups.survey()?,
    };
    let plan = plan_per_packet(wanted, &seen, tables.held());
    tables.apply(&plan)?;
    Ok(plan)
}

/// Looked at only while there are pods to be found: nodes without them watch no directory, and a node that has no watch
/// left to give serves everybody else all the same.
struct Cgroups {
    root: PathBuf,
    tree: Option<PodCgroupTree>,
}

impl Cgroups {
    fn survey(&mut self) -> Result<PodCgroups> {
        let tree = match self.tree.take() {
            Some(tree) => Ok(tree),
            None => PodCgroupTree::open(&self.root),
        };
        let seen = tree.and_then(|tree| self.tree.insert(tree).survey());
        seen.map_err(|error| {
            let remedy = match error {
                SetupError::Path { operation: "watch", .. } => {
                    "raise fs.inotify.max_user_watches and fs.inotify.max_user_instances with sysctl"
                }
                _ => "name the directory of the pods' cgroups with --cgroup-root",
            };
            anyhow::Error::new(error)
                .context(format!("pods that are to be translated per packet cannot be found: {remedy}"))
        })
    }

    fn forget(&mut self) -> PodCgroups {
        self.tree = None;
        PodCgroups::default()
    }

    /// Waits until one that matters has come or gone.
    async fn changed(&self) -> io::Result<()> {
        match &self.tree {
            Some(tree) => tree.changed().await,
            None => pending().await,
        }
    }
}
