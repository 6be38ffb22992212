//! The objects, their versions, and what happened to them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::Serialize;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::{request::Kind, selector::Selector};

#[derive(Default)]
pub(super) struct Store {
    version: u64,
    objects: BTreeMap<(Kind, String), Arc<Object>>,
    /// In the order of their versions.
    events: Vec<Event>,
    /// Watches from before this version are refused.
    oldest: u64,
    /// Where lists were interrupted, by their `continue` token.
    places: HashMap<String, Place>,
}

/// As it is sent, with the part that selectors ask about. A cluster of a million endpoints fits into memory as text, not
/// as a tree of values.
pub(super) struct Object {
    pub(super) metadata: Value,
    /// `spec.nodeName`
    pub(super) node_name: Value,
    pub(super) text: Box<RawValue>,
}

struct Event {
    version: u64,
    kind: Kind,
    before: Option<Arc<Object>>,
    after: Option<Arc<Object>>,
}

/// A list that was begun: all pages share its objects.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) version: u64,
    pub(super) objects: Arc<[Arc<Object>]>,
    /// The first one of the next page.
    pub(super) next: usize,
}

/// What a watch sends.
#[derive(Serialize)]
pub(super) struct Seen {
    #[serde(rename = "type")]
    what: &'static str,
    object: Box<RawValue>,
}

/// The version, or the place in a list, is no longer kept.
#[derive(Debug)]
pub(super) struct Gone;

impl Object {
    pub(super) fn new(value: &Value) -> Self {
        Self { metadata: value["metadata"].clone(), node_name: value["spec"]["nodeName"].clone(), text: raw(value) }
    }

    pub(super) fn value(&self) -> Value {
        serde_json::from_str(self.text.get()).expect("it was written as JSON")
    }
}

impl Store {
    pub(super) fn apply(&mut self, kind: Kind, mut object: Value) -> u64 {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let after = Arc::new(Object::new(&object));
        let before = self.objects.insert((kind, name(&object)), Arc::clone(&after));
        self.events.push(Event { version: self.version, kind, before, after: Some(after) });
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

    pub(super) fn list(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        self.objects
            .range((kind, String::new())..)
            .take_while(move |((of, _), _)| *of == kind)
            .map(|(_, object)| object)
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
    pub(super) fn events(&self, kind: Kind, version: u64, selector: &Selector) -> Result<Vec<Seen>, Gone> {
        if version < self.oldest {
            return Err(Gone);
        }
        let later = self.events.partition_point(|event| event.version <= version);
        let of_kind = self.events[later..].iter().filter(|event| event.kind == kind);
        Ok(of_kind
            .filter_map(|event| {
                let before = event.before.as_ref().filter(|object| selector.matches(object));
                let after = event.after.as_ref().filter(|object| selector.matches(object));
                let (what, object) = match (before, after) {
                    (None, None) => return None,
                    (None, Some(after)) => ("ADDED", after.text.clone()),
                    (Some(_), Some(after)) => ("MODIFIED", after.text.clone()),
                    (Some(before), None) => {
                        let mut object = before.value();
                        object["metadata"]["resourceVersion"] = json!(event.version.to_string());
                        ("DELETED", raw(&object))
                    }
                };
                Some(Seen { what, object })
            })
            .collect())
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).expect("a JSON value can be written as JSON")
}

/// With the namespace before it, if there is one.
fn name(object: &Value) -> String {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().expect("objects have names");
    metadata["namespace"].as_str().map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}
