//! `ApiServerDouble`: a stand-in for the API server, in this process, that speaks its wire protocol as far as a watcher
//! of Services, EndpointSlices, ServiceCIDRs, Nodes, Pods and Namespaces sees it, and can be told to fail in each way
//! that the real one does. It stores what it is given: no validation, no defaults, no allocation of ClusterIPs, no
//! authentication.
//!
//! Spoken, after <https://kubernetes.io/docs/reference/using-api/api-concepts/>:
//! - `GET` of a collection, cluster-wide, with `limit` and `continue` (one consistent version for all pages; a place that
//!   has expired is 410), `labelSelector`, `fieldSelector` by `metadata.name=` and `spec.nodeName=`;
//! - `watch=true` with `resourceVersion`, `timeoutSeconds`, `allowWatchBookmarks`: a chunked stream of JSON lines, ADDED,
//!   MODIFIED, DELETED (also when an object ceases to match the selector), BOOKMARK, and ERROR with code 410 where the
//!   version has been compacted;
//! - `GET` of one object; `POST` and merge `PATCH` of Events of the group events.k8s.io, which are no objects of its own;
//! - failures as `Status` objects, `Retry-After`, and plain text where the real server's filters write that.

mod answer;
mod fault;
mod object;
mod request;
mod selector;
mod store;
mod stream;
mod under_test;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};

use self::{fault::Rule, object::Written, request::Request, store::Store};
pub use self::{
    fault::{Disturbance, Fault},
    request::{Kind, Verb},
    under_test::Server,
};
use crate::node::Node;

/// Stops when it is dropped.
pub struct ApiServerDouble {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    /// The newest version, for watches to wait on.
    version: watch::Sender<u64>,
    healed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    store: Store,
    unknown: Vec<Kind>,
    rules: Vec<Rule>,
    asked: Vec<Request>,
    watches: Vec<(Kind, mpsc::UnboundedSender<Disturbance>)>,
    events: Vec<Written>,
    event_writes: usize,
    /// The code that writes of Events are answered with.
    refuse_events: Option<u16>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ApiServerDouble {
    /// On a free port of the loopback address.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("a port on the loopback address"))
    }

    /// On a node: its agent is in a network namespace of its own.
    ///
    /// # Panics
    ///
    /// When there is no free port on the loopback address there, or no runtime here.
    #[must_use]
    pub fn start_on(node: &Node) -> Self {
        let bound = node.netns.run(|| std::net::TcpListener::bind("127.0.0.1:0")).expect("the node's namespace");
        let listener = bound.expect("a port on the loopback address");
        listener.set_nonblocking(true).expect("a socket of our own");
        Self::on(TcpListener::from_std(listener).expect("a runtime that serves sockets"))
    }

    fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared =
            Arc::new(Shared { state: Mutex::default(), version: watch::channel(0).0, healed: watch::channel(()).0 });
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tokio::spawn(async move {
                    let service = service_fn(|request| answer::answer(Arc::clone(&shared), request));
                    // An error is a connection that a fault, or the client, has cut.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, shared, accepting }
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Creates or replaces an object, by its kind, namespace and name.
    ///
    /// # Panics
    ///
    /// On an object without a kind that is served, or without a name.
    pub fn apply(&self, object: Value) {
        let kind = Kind::of(&object).unwrap_or_else(|| panic!("not a kind that is served: {object}"));
        let version = self.shared.state().store.apply(kind, object);
        self.shared.version.send_replace(version);
    }

    /// `name` with its namespace before it, where the kind has one: `shop/cart`.
    ///
    /// # Panics
    ///
    /// When there is no such object.
    pub fn delete(&self, kind: Kind, name: &str) {
        let version = self.shared.state().store.delete(kind, name);
        self.shared.version.send_replace(version);
    }

    /// Forgets what happened until now: older versions, and places in lists, are gone.
    pub fn compact(&self) {
        self.shared.state().store.compact();
    }

    /// As an API server of an older version, which does not know the kind.
    pub fn forget(&self, kind: Kind) {
        self.shared.state().unknown.push(kind);
    }

    /// Lets the next `times` such requests fail.
    pub fn fail(&self, kind: Kind, verb: Verb, fault: Fault, times: usize) {
        self.shared.state().rules.push(Rule { kind, verb, fault, times });
    }

    /// Takes back all faults that are left.
    pub fn heal(&self) {
        self.shared.state().rules.clear();
        self.shared.healed.send_replace(());
    }

    /// Disturbs each open watch of the kind; returns how many there were.
    pub fn disturb(&self, kind: Kind, disturbance: Disturbance) -> usize {
        let mut state = self.shared.state();
        state.watches.retain(|(_, watch)| !watch.is_closed());
        let open = state.watches.iter().filter(|(of, _)| *of == kind);
        open.filter(|(_, watch)| watch.send(disturbance).is_ok()).count()
    }

    /// The requests of that sort so far, oldest first.
    #[must_use]
    pub fn asked(&self, kind: Kind, verb: Verb) -> Vec<Request> {
        let asked = &self.shared.state().asked;
        asked.iter().filter(|request| request.kind == kind && request.verb == verb).cloned().collect()
    }

    /// The Events that clients have written, oldest first, as their last patch left them.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.shared.state().events.iter().map(|written| written.event.clone()).collect()
    }

    /// Requests that wrote Events, or would have.
    #[must_use]
    pub fn event_writes(&self) -> usize {
        self.shared.state().event_writes
    }

    /// From now on nobody may write Events; `None`: everybody may again.
    pub fn refuse_events(&self, code: Option<u16>) {
        self.shared.state().refuse_events = code;
    }

    /// All objects of a kind, in order.
    #[must_use]
    pub fn objects(&self, kind: Kind) -> Vec<Value> {
        self.shared.state().store.list(kind).map(|object| object.value()).collect()
    }
}

impl Drop for ApiServerDouble {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
