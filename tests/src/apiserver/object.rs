//! Requests for one object: its `GET`, and the Events that clients write.

use http_body_util::BodyExt;
use hyper::{Method, body::Incoming};
use serde_json::Value;

use super::{Shared, State, request::Kind};

/// What becomes of such a request.
pub(super) enum Outcome {
    Found(Value),
    Created(Value),
    /// There is no such object.
    Missing,
    Refused(u16),
}

/// An Event as clients have written it.
pub(super) struct Written {
    pub(super) namespace: String,
    pub(super) event: Value,
}

/// `None`: a request for no single object.
pub(super) async fn object(shared: &Shared, request: hyper::Request<Incoming>) -> Option<Outcome> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if let Some((namespace, name)) = event(path) {
        let sent = body.collect().await.ok()?.to_bytes();
        let sent: Value = serde_json::from_slice(&sent).ok()?;
        return Some(write(&mut shared.state(), &parts.method, namespace, name, &sent));
    }
    let (kind, name) = Kind::object_at(path).filter(|_| parts.method == Method::GET)?;
    let state = shared.state();
    let found = state.store.list(kind).map(|object| object.value()).find(|object| named(object) == name);
    Some(found.map_or(Outcome::Missing, Outcome::Found))
}

/// The namespace, and the name where there is one.
fn event(path: &str) -> Option<(&str, Option<&str>)> {
    let (namespace, rest) = path.strip_prefix("/apis/events.k8s.io/v1/namespaces/")?.split_once('/')?;
    match rest.strip_prefix("events")? {
        "" => Some((namespace, None)),
        name => Some((namespace, Some(name.strip_prefix('/')?))),
    }
}

fn named(object: &Value) -> String {
    let part = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    format!("{}/{}", part("namespace"), part("name"))
}

fn write(state: &mut State, method: &Method, namespace: &str, name: Option<&str>, sent: &Value) -> Outcome {
    state.event_writes += 1;
    if let Some(code) = state.refuse_events {
        return Outcome::Refused(code);
    }
    match (method, name) {
        (&Method::POST, None) => {
            state.events.push(Written { namespace: namespace.to_owned(), event: sent.clone() });
            Outcome::Created(sent.clone())
        }
        (&Method::PATCH, Some(name)) => {
            let is_it =
                |written: &&mut Written| written.namespace == namespace && written.event["metadata"]["name"] == name;
            let Some(written) = state.events.iter_mut().find(is_it) else { return Outcome::Missing };
            merge(&mut written.event, sent);
            Outcome::Found(written.event.clone())
        }
        _ => Outcome::Refused(405),
    }
}

/// <https://www.rfc-editor.org/rfc/rfc7386>
fn merge(into: &mut Value, patch: &Value) {
    let (Value::Object(into), Value::Object(patch)) = (&mut *into, patch) else {
        *into = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            into.remove(key);
        } else {
            merge(into.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
