//! One document of a manifest file: which objects it holds. A `List` is taken apart element by element, so that a whole
//! cluster in one document never stands in memory as a tree.

use std::fmt;

use k8s_openapi::{
    api::{core::v1 as core, discovery::v1 as discovery, networking::v1 as networking},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{
    Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::watch::{
    Settings,
    resource::{Object, Verdict, Watched},
};

/// What a document comes to.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub objects: Vec<Object>,
    /// Why an object cannot even be named; anything may be missing from `objects` then.
    pub unnamed: Vec<String>,
    /// Objects of kinds that a service proxy does not read.
    pub other_kinds: u64,
}

/// Reads a document into its contents; an error is a document that cannot be read as such.
pub(super) struct Manifest<'a> {
    pub settings: &'a Settings,
    pub contents: &'a mut Contents,
}

impl<'de> DeserializeSeed<'de> for Manifest<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Manifest<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with apiVersion, kind and metadata")
    }

    /// An empty document.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut object = Map::new();
        let mut is_list = false;
        while let Some(field) = map.next_key::<String>()? {
            // In what `kubectl get -o yaml` writes, `items` stands before `kind`.
            if field == "items" {
                is_list = true;
                map.next_value_seed(Items { settings: self.settings, contents: self.contents })?;
            } else {
                object.insert(field, map.next_value()?);
            }
        }
        if !is_list {
            self.contents.add(Value::Object(object), self.settings);
        }
        Ok(())
    }
}

/// The `items` of a `List`.
struct Items<'a> {
    settings: &'a Settings,
    contents: &'a mut Contents,
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while let Some(object) = sequence.next_element()? {
            self.contents.add(object, self.settings);
        }
        Ok(())
    }
}

impl Contents {
    fn add(&mut self, object: Value, settings: &Settings) {
        let api_version = text(&object, "apiVersion");
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
        match (group, text(&object, "kind").as_str()) {
            (_, "") => self.unnamed.push("an object without `kind`; write which kind it is".to_owned()),
            ("", "Service") => self.read::<core::Service>(version, object, settings),
            ("", "Pod") => self.read::<core::Pod>(version, object, settings),
            ("", "Node") => self.read::<core::Node>(version, object, settings),
            ("", "Namespace") => self.read::<core::Namespace>(version, object, settings),
            ("discovery.k8s.io", "EndpointSlice") => self.read::<discovery::EndpointSlice>(version, object, settings),
            ("networking.k8s.io", "ServiceCIDR") => self.read::<networking::ServiceCIDR>(version, object, settings),
            (group, kind) => {
                tracing::debug!(group, kind, "not a kind that a service proxy reads");
                self.other_kinds += 1;
            }
        }
    }

    fn read<K: Watched + DeserializeOwned>(&mut self, version: &str, mut object: Value, settings: &Settings) {
        let Some(metadata) = name(&mut object, K::NAMESPACED) else {
            self.unnamed.push(format!("a {} without a name; write metadata.name", K::KIND));
            return;
        };
        let rejected = |reason| Object { key: K::key(&metadata), verdict: Verdict::Rejected(reason) };
        self.objects.push(if version == K::VERSION {
            // With the field that is wrong: `spec.ports[0].port: invalid type: ...`.
            serde_path_to_error::deserialize::<_, K>(object)
                .map_or_else(|error| rejected(error.to_string()), |resource| resource.read(settings))
        } else {
            rejected(format!("apiVersion of version {version:?} is not read; write {}", K::API_VERSION))
        });
    }
}

/// What names the object, read apart from the rest so that an object of a wrong shape can be named. Without a namespace
/// it is in `default`, as for `kubectl apply`.
fn name(object: &mut Value, namespaced: bool) -> Option<ObjectMeta> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    let name = metadata.get("name")?.as_str().filter(|name| !name.is_empty())?.to_owned();
    let namespace = namespaced.then(|| metadata.entry("namespace").or_insert_with(|| "default".into()));
    Some(ObjectMeta {
        name: Some(name),
        namespace: namespace.and_then(|namespace| namespace.as_str().map(str::to_owned)),
        ..ObjectMeta::default()
    })
}

fn text(object: &Value, field: &str) -> String {
    object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
