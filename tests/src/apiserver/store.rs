//! The objects, their versions, and what happened to them.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::{request::Kind, selector::Selector};

#[derive(Default)]
pub(super) struct Store {
    version: u64,
    objects: BTreeMap<(Kind, String), Value>,
    events: Vec<Event>,
    /// Watches from before this version are refused.
    oldest: u64,
    /// What is left of lists that were begun, by their `continue` token.
    places: HashMap<String, Place>,
}

struct Event {
    version: u64,
    kind: Kind,
    before: Option<Value>,
    after: Option<Value>,
}

#[derive(Clone)]
pub(super) struct Place {
    pub(super) version: u64,
    pub(super) rest: Vec<Value>,
}

/// The version, or the place in a list, is no longer kept.
#[derive(Debug)]
pub(super) struct Gone;

impl Store {
    pub(super) fn apply(&mut self, kind: Kind, mut object: Value) -> u64 {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let before = self.objects.insert((kind, name(&object)), object.clone());
        self.events.push(Event { version: self.version, kind, before, after: Some(object) });
        self.version
    }

    pub(super) fn delete(&mut self, kind: Kind, name: &str) -> u64 {
        let before = self.objects.remove(&(kind, name.to_owned()));
        assert!(before.is_some(), "no {} {name} to delete", kind.name());
        self.version += 1;
        self.events.push(Event { version: self.version, kind, before, after: None });
        self.version
    }

    pub(super) fn compact(&mut self) {
        self.oldest = self.version;
        self.events.clear();
        self.places.clear();
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn list(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |((of, _), _)| *of == kind).map(|(_, object)| object)
    }

    /// Keeps a place for the rest of a list.
    pub(super) fn keep(&mut self, place: Place) -> String {
        let token = format!("{}.{}", place.version, self.places.len());
        self.places.insert(token.clone(), place);
        token
    }

    pub(super) fn place(&self, token: &str) -> Result<Place, Gone> {
        self.places.get(token).cloned().ok_or(Gone)
    }

    /// What a watch with this selector sees of what came after `version`: an object that begins to match is added, one
    /// that ceases to is deleted.
    pub(super) fn events(&self, kind: Kind, version: u64, selector: &Selector) -> Result<Vec<Value>, Gone> {
        if version < self.oldest {
            return Err(Gone);
        }
        let later = self.events.iter().filter(|event| event.kind == kind && event.version > version);
        Ok(later
            .filter_map(|event| {
                let before = event.before.as_ref().filter(|object| selector.matches(object));
                let after = event.after.as_ref().filter(|object| selector.matches(object));
                let (what, object) = match (before, after) {
                    (None, None) => return None,
                    (None, Some(after)) => ("ADDED", after),
                    (Some(_), Some(after)) => ("MODIFIED", after),
                    (Some(before), None) => ("DELETED", before),
                };
                let mut object = object.clone();
                object["metadata"]["resourceVersion"] = json!(event.version.to_string());
                Some(json!({"type": what, "object": object}))
            })
            .collect())
    }
}

/// With the namespace before it, if there is one.
fn name(object: &Value) -> String {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().expect("objects have names");
    metadata["namespace"].as_str().map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}
