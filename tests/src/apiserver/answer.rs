//! One request, answered: as it should be, or as a fault wants it.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, future::pending, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{Response, StatusCode, body::Frame, body::Incoming, header};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use tokio::time::sleep;

use super::{
    Shared,
    fault::Fault,
    object::{Outcome, object},
    request::{Request, Verb},
    selector::Selector,
    store::Place,
    stream::watch,
};

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

pub(super) async fn answer(shared: Arc<Shared>, request: hyper::Request<Incoming>) -> io::Result<Response<Body>> {
    let Some(parsed) = Request::parse(request.uri()) else {
        return Ok(match object(&shared, request).await {
            Some(Outcome::Found(object)) => json_body(whole(object.to_string())),
            Some(Outcome::Created(object)) => {
                let mut response = json_body(whole(object.to_string()));
                *response.status_mut() = StatusCode::CREATED;
                response
            }
            Some(Outcome::Missing) => status(404, "there is no such object"),
            Some(Outcome::Refused(code)) => status(code, "the double was told to fail"),
            None => not_found(),
        });
    };
    let request = parsed;
    let mut healed = shared.healed.subscribe();
    let fault = take_fault(&shared, &request);
    match fault {
        None => {}
        Some(Fault::Status(code)) => return Ok(status(code, "the double was told to fail")),
        Some(Fault::RetryAfter(seconds)) => return Ok(overloaded(seconds)),
        Some(Fault::Slow(time)) => sleep(time).await,
        Some(Fault::NoAnswer) => pending().await,
        // An error is the double's end.
        Some(Fault::Held) => drop(healed.changed().await),
        Some(Fault::NoConnection) => return Err(io::Error::other("told to cut the connection")),
        Some(Fault::EndAtOnce) => return Ok(json_body(Full::default().map_err(infallible).boxed_unsync())),
        Some(Fault::HalfAnswer) => return Ok(half(&list(&shared, &request)?)),
    }
    if shared.state().unknown.contains(&request.kind) {
        return Ok(not_found());
    }
    Ok(match (Selector::of(&request), request.verb) {
        (Err(problem), _) => status(400, &problem),
        (Ok(_), Verb::List) => match list(&shared, &request) {
            Ok(list) => json_body(whole(list)),
            Err(_) => gone("the provided continue parameter is too old"),
        },
        (Ok(selector), Verb::Watch) => match request.parameter("resourceVersion").parse() {
            Ok(version) => json_body(watch(shared, request, selector, version)),
            Err(_) => status(400, "the double speaks no watch without a resourceVersion"),
        },
    })
}

/// Notes the request, and finds out what is to become of it.
fn take_fault(shared: &Shared, request: &Request) -> Option<Fault> {
    let mut state = shared.state();
    state.asked.push(request.clone());
    let rule =
        state.rules.iter_mut().find(|rule| rule.times > 0 && rule.kind == request.kind && rule.verb == request.verb)?;
    rule.times -= 1;
    Some(rule.fault)
}

/// As the real server writes a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    kind: String,
    api_version: &'static str,
    metadata: Value,
    items: Vec<Box<RawValue>>,
}

/// A page of the collection. All pages of a list are of the version of the first one.
fn list(shared: &Shared, request: &Request) -> io::Result<String> {
    let selector = Selector::of(request).map_err(io::Error::other)?;
    let mut state = shared.state();
    let store = &mut state.store;
    let Place { version, objects, next } = match request.parameter("continue") {
        "" => {
            let objects = store.list(request.kind).filter(|object| selector.matches(object)).cloned().collect();
            Place { version: store.version(), objects, next: 0 }
        }
        token => store.place(token).map_err(|_| io::Error::other("the place is gone"))?,
    };
    let limit = request.parameter("limit").parse().unwrap_or(usize::MAX);
    let end = next.saturating_add(limit).min(objects.len());
    let items = objects[next..end].iter().map(|object| object.text.clone()).collect();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if end < objects.len() {
        metadata["remainingItemCount"] = json!(objects.len() - end);
        metadata["continue"] = json!(store.keep(Place { version, objects, next: end }));
    }
    let kind = format!("{}List", request.kind.name());
    let list = List { kind, api_version: request.kind.api_version(), metadata, items };
    serde_json::to_string(&list).map_err(io::Error::other)
}

fn json_body(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn whole(text: String) -> Body {
    Full::from(text).map_err(infallible).boxed_unsync()
}

/// With the length of all of it announced.
fn half(text: &str) -> Response<Body> {
    let half = Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]);
    let parts = stream::iter([Ok(Frame::data(half)), Err(io::Error::other("told to cut the connection"))]);
    // One at a time, so that the first has left before the second ends the connection.
    let parts = parts.then(|part| async {
        tokio::task::yield_now().await;
        part
    });
    json_body(StreamBody::new(parts).boxed_unsync())
}

/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>
pub(super) fn status_object(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

fn status(code: u16, message: &str) -> Response<Body> {
    let reason = match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        410 => "Expired",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let mut response = json_body(whole(status_object(code, reason, message).to_string()));
    *response.status_mut() = StatusCode::from_u16(code).expect("faults carry status codes");
    response
}

fn gone(message: &str) -> Response<Body> {
    status(410, message)
}

/// The real server's answer for a path that it does not serve.
fn not_found() -> Response<Body> {
    let mut response = Response::new(Full::from("404 page not found\n").map_err(infallible).boxed_unsync());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

fn overloaded(seconds: u64) -> Response<Body> {
    let text = "Too many requests, please try again later.";
    let mut response = Response::new(Full::from(text).map_err(infallible).boxed_unsync());
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

fn infallible(never: Infallible) -> io::Error {
    match never {}
}
