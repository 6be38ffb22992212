//! `--source dir:PATH`: a directory of ordinary manifests (`*.yaml`, `*.yml`, `*.json`, in sub-directories too), and what
//! becomes of them. No polling: the kernel tells (inotify), so PATH must be a local file system.

mod document;
mod event;
mod files;
mod manifest;
mod parse;
mod survey;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf, absolute},
    sync::Arc,
};

use futures::StreamExt;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{sync::mpsc, task::spawn_blocking};

use self::{
    event::Look,
    files::{Effects, Files, reject},
    parse::parse,
    survey::{Stamp, Survey},
};
use super::{
    Change, Doubt, Rejection, Settings, WatchError,
    output::{Closed, Output},
};

/// Files that are parsed at a time.
const PARSERS: usize = 4;

/// Whether the directory can be read, for a caller who has something else to do before [`run`].
///
/// # Errors
///
/// When it cannot.
pub fn check(root: &Path) -> Result<(), WatchError> {
    fs::read_dir(root).map(drop).map_err(|source| WatchError::Directory { path: root.to_owned(), source })
}

/// Says what the directory holds, then [`Change::PodsSynced`] and [`Change::Synced`], then what changes in it. Ends when
/// nobody listens any more; dropping the future ends it too.
///
/// # Errors
///
/// Only at the start: the directory is not there, cannot be read, or cannot be watched. Later, a directory that vanishes
/// as a whole (moved away, unmounted) leaves its objects in force until it is back; files deleted from it do not.
pub async fn run(root: &Path, settings: &Settings, output: &Output) -> Result<(), WatchError> {
    check(root)?;
    let root = absolute(root).map_err(|source| WatchError::Directory { path: root.to_owned(), source })?;
    let (looks, mut events) = mpsc::unbounded_channel();
    let watcher = watcher(&root, looks).map_err(|source| WatchError::Inotify { path: root.clone(), source })?;
    let mut directory = Directory {
        root,
        settings: Arc::new(settings.clone()),
        watcher,
        files: Files::default(),
        output: output.clone(),
        missing: false,
        hidden: BTreeSet::new(),
        seen_again: BTreeSet::new(),
    };

    if directory.start().await.is_err() {
        return Ok(());
    }
    while let Some(look) = events.recv().await {
        // Whatever else has happened by now: each place is looked at once.
        let mut pending = BTreeSet::from([look]);
        while let Ok(look) = events.try_recv() {
            pending.insert(look);
        }
        for look in pending {
            if directory.look(look).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn watcher(root: &Path, looks: mpsc::UnboundedSender<Look>) -> Result<RecommendedWatcher, Box<notify::Error>> {
    let top = root.to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let look = match event {
            Ok(event) => Look::after(&event, &top),
            Err(error) => {
                tracing::warn!(path = %top.display(), %error, "watching the manifests: looking at all of them again");
                Some(Look { path: top.clone(), gone: false })
            }
        };
        if let Some(look) = look {
            // Fails only when the source has ended.
            let _ = looks.send(look);
        }
    })?;
    watcher.watch(root, RecursiveMode::NonRecursive)?;
    watch_above(&mut watcher, root)?;
    Ok(watcher)
}

/// Watches the directory that holds `root`, which alone tells when `root` comes back, and those that hold links on the
/// way to it: releases are swapped by such a link (`/etc/millrace/current/services`).
fn watch_above(watcher: &mut RecommendedWatcher, root: &Path) -> notify::Result<()> {
    let links = root.ancestors().skip(1).filter(|path| path.is_symlink()).filter_map(Path::parent);
    root.parent().into_iter().chain(links).try_for_each(|path| watch_anew(watcher, path))
}

/// By a path that may lead to another directory than it did: the watch of the former one, if it stayed, would take this
/// one along when it ends.
fn watch_anew(watcher: &mut RecommendedWatcher, path: &Path) -> notify::Result<()> {
    // Most often there was none.
    let _ = watcher.unwatch(path);
    watcher.watch(path, RecursiveMode::NonRecursive)
}

struct Directory {
    root: PathBuf,
    settings: Arc<Settings>,
    watcher: RecommendedWatcher,
    files: Files,
    output: Output,
    /// The whole directory is away.
    missing: bool,
    /// Directories that were rejected.
    hidden: BTreeSet<PathBuf>,
    /// The same that may be readable again: that is said when they have been read.
    seen_again: BTreeSet<PathBuf>,
}

impl Directory {
    /// The first look, and that it was all.
    async fn start(&mut self) -> Result<(), Closed> {
        self.look(Look { path: self.root.clone(), gone: false }).await?;
        self.output.send(Change::PodsSynced).await?;
        self.output.send(Change::Synced).await
    }

    /// Brings what is known of a place up to date with what is there.
    async fn look(&mut self, look: Look) -> Result<(), Closed> {
        let path = look.path.as_path();
        if path == self.root && !self.is_there().await? {
            return Ok(());
        }
        if !look.gone && path.parent().is_some_and(|parent| !parent.exists()) {
            // What holds it is gone, and has an event of its own.
            return Ok(());
        }
        let watcher = &mut self.watcher;
        let mut unwatched = Vec::new();
        if path == self.root
            && let Err(error) = watch_above(watcher, path)
        {
            unwatched.push((path.to_owned(), io::Error::other(error)));
        }
        let survey = Survey::of(path, &self.root, &mut |directory| {
            if let Err(error) = watch_anew(watcher, directory) {
                unwatched.push((directory.to_owned(), io::Error::other(error)));
            }
        });
        self.seen_again.extend(self.hidden.extract_if(.., |hidden| hidden.starts_with(path)));
        for (path, error) in &survey.hidden {
            self.hidden.insert(path.clone());
            let reason = format!("cannot be read: {error}; make it readable for the agent");
            self.output.send(reject(path, reason)).await?;
        }
        for (path, error) in unwatched.iter().filter(|(path, _)| !self.hidden.contains(path)) {
            let reason = format!(
                "its changes go unseen: {error}; make it readable for the agent, and if a limit is reached, raise \
                 fs.inotify.max_user_watches with sysctl"
            );
            self.output.send(Change::Rejected(Rejection::part(&path.display(), reason))).await?;
        }
        let gone: Vec<_> = self.files.below(path).map(|(file, _)| Arc::clone(file)).collect();
        for file in gone.iter().filter(|file| !survey.files.contains_key(*file) && survey.covers(file)) {
            let effects = self.files.delete(file);
            self.put(effects).await?;
        }
        // A file that an event names is read whatever its stamp: two writes may fall into one tick of the clock.
        let named = survey.files.contains_key(path);
        let known = |file: &Arc<Path>| self.files.below(file).next().map(|(_, stamp)| stamp);
        let changed = survey.files.into_iter().filter(|(file, stamp)| named || known(file) != Some(*stamp)).collect();
        self.read(changed).await?;
        self.settle().await
    }

    /// What was hidden is known now: as its files say, or as nothing that is there says.
    async fn settle(&mut self) -> Result<(), Closed> {
        for path in std::mem::take(&mut self.seen_again) {
            if !self.hidden.contains(&path) && !self.files.doubt(&path) {
                self.output.send(Change::Settled(Doubt::File(path.into()))).await?;
            }
        }
        Ok(())
    }

    /// Whether the root is there; says so when it has vanished or is back.
    async fn is_there(&mut self) -> Result<bool, Closed> {
        let Err(error) = fs::read_dir(&self.root) else {
            if std::mem::take(&mut self.missing) {
                tracing::info!(path = %self.root.display(), "the manifest directory is back");
                self.seen_again.insert(self.root.clone());
            }
            return Ok(true);
        };
        // Nothing below it is to be believed any more, wherever it has gone to; its return shows further up.
        let _ = self.watcher.unwatch(&self.root);
        for above in self.root.ancestors().skip(1) {
            if self.watcher.watch(above, RecursiveMode::NonRecursive).is_ok() {
                break;
            }
        }
        if !std::mem::replace(&mut self.missing, true) {
            let reason = format!("is away: {error}; its objects stay in force until it is back");
            self.output.send(reject(&self.root, reason)).await?;
        }
        Ok(false)
    }

    async fn read(&mut self, changed: Vec<(Arc<Path>, Stamp)>) -> Result<(), Closed> {
        let settings = &Arc::clone(&self.settings);
        // The everyday change, one small file, is not worth a thread's wake-up.
        let at_once = changed.len() == 1 && changed.iter().all(|(_, stamp)| stamp.is_small());
        let mut parsed = futures::stream::iter(changed)
            .map(|(file, stamp)| async move {
                let (path, settings) = (Arc::clone(&file), Arc::clone(settings));
                let read = move || parse(&path, &settings);
                let contents = if at_once {
                    read()
                } else {
                    spawn_blocking(read).await.unwrap_or_else(|failed| Err(format!("the parser gave up: {failed}")))
                };
                (contents, file, stamp)
            })
            .buffered(PARSERS);
        while let Some((contents, file, stamp)) = parsed.next().await {
            match contents {
                Ok(contents) => {
                    self.output.health().other_kinds.add(contents.other_kinds);
                    let effects = self.files.apply(&file, stamp, contents);
                    self.put(effects).await?;
                }
                Err(reason) => {
                    let change = self.files.reject(&file, stamp, reason);
                    self.output.send(change).await?;
                }
            }
        }
        Ok(())
    }

    async fn put(&mut self, effects: Effects) -> Result<(), Closed> {
        for change in effects.changes {
            self.output.send(change).await?;
        }
        if effects.uncovered.is_empty() {
            return Ok(());
        }
        let uncovered = effects.uncovered.into_iter().map(|file| (file, Stamp::default())).collect();
        Box::pin(self.read(uncovered)).await
    }
}
