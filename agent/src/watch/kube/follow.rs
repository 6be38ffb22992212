//! One kind of object at the API server, followed for ever: a list, then a watch from there, and what to do when either
//! fails. <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>
//!
//! `kube::runtime::watcher` is not used for it: where a server answers a watch with HTTP status 410 it asks for the same
//! version for ever, and where a server ends each watch at once it asks again without a pause.

use std::{fmt::Debug, ops::ControlFlow, pin::pin, time::Duration};

use futures::StreamExt;
use kube::{
    Api, Error,
    api::{ListParams, WatchEvent, WatchParams},
    core::DeserializeGuard,
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::{connection::Connection, known::Known, pace::Pace, start::Start};
use crate::watch::{
    Settings,
    output::{Closed, Output},
    resource::{Object, Verdict, Watched},
};

/// Objects of a list that are in memory at a time.
const PAGE: u32 = 500;
/// Seconds after which the server ends a watch: a random one of these, so that a cluster's nodes do not come in step.
const WATCH_SECONDS: std::ops::Range<u32> = 240..290;
/// A watch that lasted so long was a good one, even if nothing happened.
const GOOD_WATCH: Duration = Duration::from_secs(10);
/// Before a kind that the server does not know is asked for again: it may be upgraded.
const UNKNOWN_KIND: Duration = Duration::from_secs(600);

/// Which objects of a kind, as the server selects them.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Option<String>,
    fields: Option<String>,
}

impl Selector {
    pub(super) fn labels(labels: String) -> Self {
        Self { labels: Some(labels), fields: None }
    }

    pub(super) fn fields(fields: String) -> Self {
        Self { labels: None, fields: Some(fields) }
    }
}

pub(super) struct Follow<K> {
    api: Api<DeserializeGuard<K>>,
    selector: Selector,
    settings: Settings,
    known: Known,
    pace: Pace,
    output: Output,
    start: Option<Start>,
    /// Off after a list that took longer than the server keeps its place.
    paged: bool,
    url: String,
}

/// Why a list did not become complete.
enum Incomplete {
    Failed(Error),
    Closed,
}

/// What comes after a watch.
enum Next {
    Watch,
    List,
}

impl<K> Follow<K>
where
    K: Watched + kube::Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
{
    pub(super) fn new(
        connection: &Connection,
        selector: Selector,
        settings: &Settings,
        output: &Output,
        start: Start,
    ) -> Self {
        Self {
            api: Api::all(connection.client.clone()),
            selector,
            settings: settings.clone(),
            known: Known::default(),
            pace: Pace::new(connection.retry_after.clone()),
            output: output.clone(),
            start: Some(start),
            paged: true,
            url: connection.url.clone(),
        }
    }

    pub(super) async fn run(mut self) -> Closed {
        loop {
            let done = match self.list().await {
                Ok(version) => self.follow_from(version).await,
                Err(Incomplete::Closed) => ControlFlow::Break(Closed),
                Err(Incomplete::Failed(error)) if self.is_unknown(&error) => self.do_without().await,
                Err(Incomplete::Failed(error)) => {
                    // The place in a list is kept for some minutes; then all of it has to be asked for at once.
                    self.paged = !is_gone(&error);
                    self.report(&error, "the list failed; nothing is deleted on account of it");
                    self.pace.pause().await;
                    ControlFlow::Continue(())
                }
            };
            if let ControlFlow::Break(closed) = done {
                return closed;
            }
        }
    }

    /// Says all that there is, page by page, then what is gone. Returns the version of the list.
    async fn list(&mut self) -> Result<String, Incomplete> {
        self.known.begin();
        let mut params = ListParams {
            label_selector: self.selector.labels.clone(),
            field_selector: self.selector.fields.clone(),
            limit: self.paged.then_some(PAGE),
            ..ListParams::default()
        };
        let version = loop {
            let page = self.api.list(&params).await.map_err(Incomplete::Failed)?;
            for object in page.items {
                self.apply(object).await?;
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                break page.metadata.resource_version.unwrap_or_default();
            }
        };
        self.paged = true;
        for change in self.known.end() {
            self.output.send(change).await?;
        }
        self.started().await?;
        Ok(version)
    }

    /// Watches, and resumes where a watch ended, until a list is needed.
    async fn follow_from(&mut self, mut version: String) -> ControlFlow<Closed> {
        loop {
            let opened = Instant::now();
            let next = match self.watch(&mut version).await {
                Ok(next) => next,
                Err(Incomplete::Closed) => return ControlFlow::Break(Closed),
                Err(Incomplete::Failed(error)) if is_gone(&error) => Next::List,
                Err(Incomplete::Failed(error)) => {
                    self.report(&error, "the watch failed; resuming where it was");
                    Next::Watch
                }
            };
            if opened.elapsed() >= GOOD_WATCH {
                self.pace.reset();
            }
            self.pace.pause().await;
            if let Next::List = next {
                self.output.health().relists.increment();
                tracing::info!(kind = K::KIND, version, "the watch fell behind what the server keeps; listing again");
                return ControlFlow::Continue(());
            }
        }
    }

    /// One watch, from its opening to its end.
    async fn watch(&mut self, version: &mut String) -> Result<Next, Incomplete> {
        let params = WatchParams {
            label_selector: self.selector.labels.clone(),
            field_selector: self.selector.fields.clone(),
            timeout: Some(fastrand::u32(WATCH_SECONDS)),
            bookmarks: true,
            send_initial_events: false,
        };
        let mut events = pin!(self.api.watch(&params, version).await.map_err(Incomplete::Failed)?);
        while let Some(event) = events.next().await {
            let seen = match event.map_err(Incomplete::Failed)? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let seen = version_of(&object);
                    self.apply(object).await?;
                    seen
                }
                WatchEvent::Deleted(object) => {
                    let seen = version_of(&object);
                    for change in self.known.delete(K::key(kube::Resource::meta(&object))) {
                        self.output.send(change).await?;
                    }
                    seen
                }
                WatchEvent::Bookmark(bookmark) => Some(bookmark.metadata.resource_version),
                WatchEvent::Error(status) => return Err(Incomplete::Failed(Error::Api(status))),
            };
            if let Some(seen) = seen {
                *version = seen;
            }
            self.pace.reset();
        }
        // The server's time was up, or the connection fell silent; the version tells where to go on.
        Ok(Next::Watch)
    }

    async fn apply(&mut self, DeserializeGuard(object): DeserializeGuard<K>) -> Result<(), Closed> {
        let object = match object {
            Ok(resource) => resource.read(&self.settings),
            Err(invalid) => Object { key: K::key(&invalid.metadata), verdict: Verdict::Rejected(invalid.error) },
        };
        for change in self.known.apply(object) {
            self.output.send(change).await?;
        }
        Ok(())
    }

    /// The kind has said all that there was.
    async fn started(&mut self) -> Result<(), Closed> {
        self.output.health().listed(K::KIND);
        match self.start.take() {
            Some(start) => start.done(&self.output).await,
            None => Ok(()),
        }
    }

    /// ServiceCIDR is served from Kubernetes 1.33 on.
    fn is_unknown(&self, error: &Error) -> bool {
        K::OPTIONAL && matches!(error, Error::Api(status) if status.code == 404)
    }

    async fn do_without(&mut self) -> ControlFlow<Closed> {
        if self.start.is_some() {
            tracing::info!(
                kind = K::KIND,
                api = K::API_VERSION,
                url = self.url,
                "the API server does not know this kind"
            );
        }
        if self.started().await.is_err() {
            return ControlFlow::Break(Closed);
        }
        sleep(UNKNOWN_KIND).await;
        ControlFlow::Continue(())
    }

    fn report(&self, error: &Error, what: &'static str) {
        self.output.health().errors.increment();
        let remedy = match error {
            Error::Api(status) if matches!(status.code, 401 | 403) => {
                "let the agent's service account list and watch it"
            }
            _ => "none needed if it passes; else check that --kube-api names the API server and that it can be reached",
        };
        tracing::warn!(kind = K::KIND, url = self.url, error = error as &dyn std::error::Error, remedy, "{what}");
    }
}

impl From<Closed> for Incomplete {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

/// The server no longer has the version, or the place in the list, that was asked for.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 410)
}

fn version_of<K: kube::Resource>(object: &K) -> Option<String> {
    object.meta().resource_version.clone()
}
