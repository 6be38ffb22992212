//! The agent's HTTP servers.

use std::{convert::Infallible, future::pending, net::SocketAddr, sync::Arc, time::Instant};

use ::http::StatusCode;
use anyhow::{Context, Result};
use jiff::Timestamp;
use tokio::net::TcpListener;

use crate::{
    datapath::Pins,
    health::Health,
    http::{self, Answer},
    metrics::{self, Metrics},
    watch,
};

/// Where to serve, before anything in the kernel is touched: an address that is taken ends a start without a trace.
pub(super) struct Listeners {
    health: Option<TcpListener>,
    metrics: Option<TcpListener>,
}

impl Listeners {
    pub(super) async fn bind(health: Option<SocketAddr>, metrics: Option<SocketAddr>) -> Result<Self> {
        Ok(Self {
            health: bind(health, "health checks", "--health-addr").await?,
            metrics: bind(metrics, "metrics", "--metrics-addr").await?,
        })
    }

    /// Never ends, with and without addresses.
    pub(super) async fn serve(
        self,
        health: Arc<Health>,
        metrics: &Metrics,
        pins: &Pins,
        source: Arc<watch::Health>,
    ) -> Infallible {
        let registry = metrics.registry(pins.clone(), source);
        let state = move |path: &str| health.answer(path, Instant::now(), Timestamp::now());
        let numbers = move |path: &str| {
            let (content_type, body) = match path {
                "/metrics" => ("application/openmetrics-text; version=1.0.0; charset=utf-8", metrics::text(&registry)),
                "/proxyMode" => ("text/plain", "ebpf".to_owned()),
                _ => return Answer::not_found(),
            };
            Answer::new(StatusCode::OK, content_type, body)
        };
        tokio::join!(serve(self.health, Arc::new(state)), serve(self.metrics, Arc::new(numbers))).0
    }
}

async fn bind(address: Option<SocketAddr>, what: &str, flag: &str) -> Result<Option<TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    let listener = http::bind(address)
        .await
        .with_context(|| format!("cannot serve {what} on {address}: name another address with {flag}"))?;
    Ok(Some(listener))
}

async fn serve(listener: Option<TcpListener>, handler: Arc<dyn Fn(&str) -> Answer + Send + Sync>) -> Infallible {
    match listener {
        Some(listener) => http::serve(listener, handler).await,
        None => pending().await,
    }
}
