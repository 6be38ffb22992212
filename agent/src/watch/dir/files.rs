//! Which file says which object, so that a changed file costs no more than itself. Where several files name one object,
//! the last path in order is in force.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Bound,
    path::Path,
    sync::Arc,
};

use super::{manifest::Contents, survey::Stamp};
use crate::watch::{
    Change, Doubt, Rejection,
    resource::{Object, ObjectKey, Verdict},
};

#[derive(Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<Arc<Path>, Entry>,
    /// The files that name an object, in order.
    claims: HashMap<ObjectKey, Vec<Arc<Path>>>,
}

#[derive(Debug, Default)]
struct Entry {
    stamp: Stamp,
    keys: Vec<ObjectKey>,
    /// Rejected when it was last read.
    doubts: BTreeSet<Doubt>,
}

/// What a file that was read anew, or is gone, comes to.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub changes: Vec<Change>,
    /// Files whose objects were hidden by this one until now: read them again.
    pub uncovered: BTreeSet<Arc<Path>>,
}

impl Files {
    /// Known files at `path` or below it, with the stamp that each had when it was last read.
    pub(super) fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (&'a Arc<Path>, Stamp)> {
        self.files
            .range::<Path, _>((Bound::Included(path), Bound::Unbounded))
            .take_while(move |(file, _)| file.starts_with(path))
            .map(|(file, entry)| (file, entry.stamp))
    }

    /// The file now says this.
    pub(super) fn apply(&mut self, path: &Arc<Path>, stamp: Stamp, contents: Contents) -> Effects {
        let mut effects = Effects::default();
        let complete = contents.unnamed.is_empty();
        effects.changes.extend(contents.unnamed.into_iter().map(|reason| reject(path, reason)));

        let Entry { keys, doubts, .. } = self.files.remove(path).unwrap_or_default();
        let before: HashSet<ObjectKey> = keys.into_iter().collect();
        let mut after = HashSet::with_capacity(contents.objects.len());
        for object in contents.objects {
            self.apply_object(path, object, &before, &mut after, &mut effects.changes);
        }
        for key in before {
            if after.contains(&key) {
                continue;
            }
            if complete {
                self.release(path, key, &mut effects);
            } else {
                // It may be one of those that could not be named.
                after.insert(key);
            }
        }
        let now = effects.changes.iter().filter_map(doubt).cloned().collect();
        self.settle(&doubts, &now, &mut effects);
        self.files.insert(Arc::clone(path), Entry { stamp, keys: after.into_iter().collect(), doubts: now });
        effects
    }

    /// The file cannot be read: its last good objects stay in force.
    pub(super) fn reject(&mut self, path: &Arc<Path>, stamp: Stamp, reason: String) -> Change {
        let change = reject(path, reason);
        let entry = self.files.entry(Arc::clone(path)).or_default();
        entry.stamp = stamp;
        entry.doubts.extend(doubt(&change).cloned());
        change
    }

    /// Whether nobody knows all that a file says.
    pub(super) fn doubt(&self, path: &Path) -> bool {
        let of = |entry: &Entry| entry.doubts.contains(&Doubt::File(path.into()));
        self.files.get(path).is_some_and(of)
    }

    /// The file is gone, and its objects with it.
    pub(super) fn delete(&mut self, path: &Arc<Path>) -> Effects {
        let mut effects = Effects::default();
        let Entry { keys, doubts, .. } = self.files.remove(path).unwrap_or_default();
        for key in keys {
            self.release(path, key, &mut effects);
        }
        self.settle(&doubts, &BTreeSet::new(), &mut effects);
        effects
    }

    /// Doubts of a file that it no longer leaves, nor any other.
    fn settle(&self, before: &BTreeSet<Doubt>, now: &BTreeSet<Doubt>, effects: &mut Effects) {
        let elsewhere = |doubt: &Doubt| self.files.values().any(|entry| entry.doubts.contains(doubt));
        let settled = before.difference(now).filter(|doubt| !elsewhere(doubt));
        effects.changes.extend(settled.cloned().map(Change::Settled));
    }

    fn apply_object(
        &mut self,
        path: &Arc<Path>,
        object: Object,
        before: &HashSet<ObjectKey>,
        after: &mut HashSet<ObjectKey>,
        changes: &mut Vec<Change>,
    ) {
        let Object { key, verdict } = object;
        match verdict {
            Verdict::Served(change, problems) => {
                let claims = self.claims.entry(key.clone()).or_default();
                if let Err(position) = claims.binary_search(path) {
                    claims.insert(position, Arc::clone(path));
                }
                let in_force = claims.last() == Some(path);
                if let [first, .., last] = claims.as_slice() {
                    let (first, last) = (first.display(), last.display());
                    changes.push(key.leave_out(format!("is in {first} and in {last}; the latter is used, remove one")));
                }
                if in_force {
                    let file = path.display();
                    changes.extend(problems.iter().map(|problem| key.leave_out(format!("{problem} (in {file})"))));
                    changes.push(change);
                }
                if let Some(key) = after.replace(key) {
                    changes
                        .push(key.leave_out(format!("is twice in {}; the latter is used, remove one", path.display())));
                }
            }
            // As if it were not there.
            Verdict::NotServed => {}
            Verdict::Rejected(reason) => {
                changes.push(key.reject(format!("{reason} (in {})", path.display())));
                if before.contains(&key) {
                    after.insert(key);
                }
            }
        }
    }

    /// `path` no longer names the object.
    fn release(&mut self, path: &Arc<Path>, key: ObjectKey, effects: &mut Effects) {
        let Some(claims) = self.claims.get_mut(&key) else { return };
        let was_in_force = claims.last() == Some(path);
        claims.retain(|claim| claim != path);
        match claims.last() {
            Some(next) if was_in_force => {
                effects.uncovered.insert(Arc::clone(next));
            }
            Some(_) => {}
            None => {
                self.claims.remove(&key);
                effects.changes.push(key.delete());
            }
        }
    }
}

/// Nobody knows which objects are in there.
pub(super) fn reject(path: &Path, reason: String) -> Change {
    Change::Rejected(Rejection::whole(Doubt::File(path.into()), reason))
}

fn doubt(change: &Change) -> Option<&Doubt> {
    match change {
        Change::Rejected(rejection) => rejection.doubt.as_ref(),
        _ => None,
    }
}
