//! A watch: one JSON line for each event, until its time is up or something disturbs it.

use std::{future::pending, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    Shared,
    answer::{Body, status_object},
    fault::Disturbance,
    request::Request,
    selector::Selector,
};

pub(super) fn watch(shared: Arc<Shared>, request: Request, selector: Selector, version: u64) -> Body {
    let (lines, received) = mpsc::channel(1);
    let (disturb, disturbances) = mpsc::unbounded_channel();
    shared.state().watches.push((request.kind, disturb));
    tokio::spawn(async move {
        let mut watch = Watch { shared, request, selector, version, lines };
        // Ends early when the client has gone.
        let _ = watch.run(disturbances).await;
    });
    let frames = stream::unfold(received, |mut received| async {
        let line: io::Result<Bytes> = received.recv().await?;
        Some((line.map(Frame::data), received))
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

struct Watch {
    shared: Arc<Shared>,
    request: Request,
    selector: Selector,
    version: u64,
    lines: mpsc::Sender<io::Result<Bytes>>,
}

struct Gone;

impl Watch {
    async fn run(&mut self, mut disturbances: mpsc::UnboundedReceiver<Disturbance>) -> Result<(), Gone> {
        let seconds = self.request.parameter("timeoutSeconds").parse().unwrap_or(1800);
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut newest = self.shared.version.subscribe();
        loop {
            // What happens after a disturbance is not seen by the watch that was disturbed.
            while let Ok(disturbance) = disturbances.try_recv() {
                if self.is_ended_by(disturbance).await? {
                    return Ok(());
                }
            }
            newest.mark_unchanged();
            let (events, version) = {
                let state = self.shared.state();
                (state.store.events(self.request.kind, self.version, &self.selector), state.store.version())
            };
            let Ok(events) = events else { return self.error(410, "too old resource version").await };
            self.version = version;
            for event in events {
                self.line(&event).await?;
            }
            tokio::select! {
                biased;
                Some(disturbance) = disturbances.recv() => {
                    if self.is_ended_by(disturbance).await? {
                        return Ok(());
                    }
                }
                _ = newest.changed() => {}
                () = sleep_until(end) => return Ok(()),
            }
        }
    }

    async fn is_ended_by(&mut self, disturbance: Disturbance) -> Result<bool, Gone> {
        match disturbance {
            Disturbance::Bookmark if self.request.parameter("allowWatchBookmarks") == "true" => {
                let (kind, version) = (self.request.kind, self.version.to_string());
                self.line(&json!({"type": "BOOKMARK", "object": {
                    "kind": kind.name(), "apiVersion": kind.api_version(), "metadata": {"resourceVersion": version},
                }}))
                .await?;
                return Ok(false);
            }
            Disturbance::Bookmark => return Ok(false),
            Disturbance::End => {}
            Disturbance::CutMidLine => {
                self.send(Ok(Bytes::from_static(b"{\"type\":\"ADDED\",\"object\":{\"kind\":\"Ser"))).await?;
                self.send(Err(io::Error::other("told to cut the connection"))).await?;
            }
            Disturbance::Stall => pending().await,
            Disturbance::Error(code) => self.error(code, "the double was told to fail").await?,
            Disturbance::Garbage => self.send(Ok(Bytes::from_static(b"<html>\n"))).await?,
        }
        Ok(true)
    }

    async fn error(&mut self, code: u16, message: &str) -> Result<(), Gone> {
        let reason = if code == 410 { "Expired" } else { "InternalError" };
        self.line(&json!({"type": "ERROR", "object": status_object(code, reason, message)})).await
    }

    async fn line(&mut self, event: &impl Serialize) -> Result<(), Gone> {
        let mut line = serde_json::to_vec(event).expect("events can be written as JSON");
        line.push(b'\n');
        self.send(Ok(line.into())).await
    }

    async fn send(&mut self, bytes: io::Result<Bytes>) -> Result<(), Gone> {
        self.lines.send(bytes).await.map_err(|_| Gone)
    }
}
