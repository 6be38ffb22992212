//! The agent's HTTP servers.

use std::{future::pending, net::SocketAddr, sync::Arc, time::Instant};

use ::http::StatusCode;
use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::{
    datapath::Pins,
    health::Health,
    http::{self, Answer},
    metrics::{self, Metrics},
    watch,
};

/// Without an address it never ends.
pub(super) async fn health(address: Option<SocketAddr>, health: Arc<Health>) -> Result<()> {
    let Some(address) = address else { return pending().await };
    let handler = move |path: &str| health.answer(path, Instant::now(), Timestamp::now());
    http::serve(address, Arc::new(handler))
        .await
        .map(drop)
        .with_context(|| format!("cannot serve health checks on {address}: name another address with --health-addr"))
}

/// Without an address it never ends.
pub(super) async fn metrics(
    address: Option<SocketAddr>,
    metrics: &Metrics,
    pins: &Pins,
    source: Arc<watch::Health>,
) -> Result<()> {
    let Some(address) = address else { return pending().await };
    let registry = metrics.registry(pins.clone(), source);
    let handler = move |path: &str| {
        let (content_type, body) = match path {
            "/metrics" => ("application/openmetrics-text; version=1.0.0; charset=utf-8", metrics::text(&registry)),
            "/proxyMode" => ("text/plain", "ebpf".to_owned()),
            _ => return Answer::not_found(),
        };
        Answer { status: StatusCode::OK, content_type, body }
    };
    http::serve(address, Arc::new(handler))
        .await
        .map(drop)
        .with_context(|| format!("cannot serve metrics on {address}: name another address with --metrics-addr"))
}
