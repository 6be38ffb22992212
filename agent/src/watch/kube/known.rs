//! What the source has said of one kind, so that it can say what is gone.

use foldhash::HashMap;

use crate::watch::{
    Change,
    resource::{Object, ObjectKey, Verdict},
};

/// Keys only; the objects are elsewhere.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// With the list in which each was last seen.
    seen: HashMap<ObjectKey, u32>,
    /// The same of those that make no sense.
    rejected: HashMap<ObjectKey, u32>,
    list: u32,
}

impl Known {
    /// A list begins.
    pub(super) fn begin(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    /// An object is there, in a list or by an event.
    pub(super) fn apply(&mut self, object: Object) -> Vec<Change> {
        let Object { key, verdict } = object;
        match verdict {
            Verdict::Served(change, problems) => {
                let left_out = problems.iter().map(|problem| key.leave_out(problem.to_string()));
                let settled = self.rejected.remove(&key).map(|_| key.settled());
                let changes = left_out.chain([change]).chain(settled).collect();
                self.seen.insert(key, self.list);
                changes
            }
            Verdict::NotServed => self.delete(key),
            Verdict::Rejected(reason) => {
                let change = key.reject(reason);
                // It exists: what was known of it stays in force.
                self.seen.entry(key.clone()).and_modify(|seen| *seen = self.list);
                self.rejected.insert(key, self.list);
                vec![change]
            }
        }
    }

    /// An event says that an object is gone.
    pub(super) fn delete(&mut self, key: ObjectKey) -> Vec<Change> {
        let settled = self.rejected.remove(&key).map(|_| key.settled());
        self.seen.remove(&key).map(|_| key.delete()).into_iter().chain(settled).collect()
    }

    /// The list was complete: what it did not have is gone.
    pub(super) fn end(&mut self) -> Vec<Change> {
        let gone = self.seen.extract_if(|_, seen| *seen != self.list).map(|(key, _)| key.delete());
        let settled = self.rejected.extract_if(|_, seen| *seen != self.list).map(|(key, _)| key.settled());
        gone.chain(settled).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, verdict: Verdict) -> Object {
        Object { key: ObjectKey::ServiceCidr(name.into()), verdict }
    }

    fn served(name: &str) -> Object {
        object(name, Verdict::Served(Change::Synced, Vec::new()))
    }

    fn settled(name: &str) -> Change {
        ObjectKey::ServiceCidr(name.into()).settled()
    }

    fn gone(name: &str) -> Change {
        Change::ServiceCidr(name.into(), None)
    }

    #[test]
    fn only_a_complete_list_says_what_is_gone() {
        let mut known = Known::default();
        known.begin();
        known.apply(served("a"));
        known.apply(served("b"));
        assert_eq!(known.end(), []);
        // This one breaks off.
        known.begin();
        known.apply(served("a"));
        known.begin();
        known.apply(served("b"));
        assert_eq!(known.end(), [gone("a")]);
    }

    #[test]
    fn an_object_that_can_no_longer_be_read_is_not_gone() {
        let mut known = Known::default();
        known.begin();
        known.apply(served("a"));
        known.begin();
        assert!(matches!(known.apply(object("a", Verdict::Rejected(String::new()))).as_slice(), [Change::Rejected(_)]));
        assert_eq!(known.end(), []);
        assert_eq!(known.delete(ObjectKey::ServiceCidr("a".into())), [gone("a"), settled("a")]);
    }

    #[test]
    fn a_doubt_ends_with_the_object_or_when_it_makes_sense_again() {
        let mut known = Known::default();
        let reject = |known: &mut Known| {
            known.begin();
            assert!(matches!(
                known.apply(object("a", Verdict::Rejected(String::new()))).as_slice(),
                [Change::Rejected(_)]
            ));
            assert_eq!(known.end(), []);
        };
        reject(&mut known);
        assert_eq!(known.apply(served("a")).last(), Some(&settled("a")));
        reject(&mut known);
        assert_eq!(known.apply(object("a", Verdict::NotServed)), [gone("a"), settled("a")]);
        reject(&mut known);
        known.begin();
        assert_eq!(known.end(), [settled("a")]);
    }

    #[test]
    fn an_object_that_is_no_longer_served_is_gone_and_one_that_never_was_is_not_mentioned() {
        let mut known = Known::default();
        assert_eq!(known.apply(object("a", Verdict::NotServed)), []);
        known.apply(served("a"));
        assert_eq!(known.apply(object("a", Verdict::NotServed)), [gone("a")]);
        assert_eq!(known.delete(ObjectKey::ServiceCidr("a".into())), []);
    }
}
