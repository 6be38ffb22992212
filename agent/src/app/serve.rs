//! The agent's HTTP servers.

use std::{
    convert::Infallible,
    future::pending,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ::http::StatusCode;
use anyhow::{Context, Result};
use jiff::Timestamp;
use tokio::{net::TcpListener, time::sleep};
use tracing::{info, warn};

use crate::{
    datapath::Pins,
    health::Health,
    http::{self, Answer},
    metrics::{self, Metrics},
    watch,
};

/// Before a port that another process holds is asked for again. Load balancers ask every few seconds: the gap after
/// kube-proxy's end shall not fail two of their checks.
const RETRY: Duration = Duration::from_secs(1);

/// Where to serve, before anything in the kernel is touched: an address that the node does not have ends a start without a
/// trace. A port that is taken does not: kube-proxy holds both until the node is moved over to this agent.
pub(super) struct Listeners {
    health: Option<Place>,
    metrics: Option<Place>,
}

/// An address to serve on.
struct Place {
    what: &'static str,
    flag: &'static str,
    address: SocketAddr,
    /// `None`: another process has the port.
    listener: Option<TcpListener>,
}

impl Listeners {
    pub(super) async fn bind(health: Option<SocketAddr>, metrics: Option<SocketAddr>) -> Result<Self> {
        Ok(Self {
            health: Place::bind(health, "health checks", "--health-addr").await?,
            metrics: Place::bind(metrics, "metrics", "--metrics-addr").await?,
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

impl Place {
    async fn bind(address: Option<SocketAddr>, what: &'static str, flag: &'static str) -> Result<Option<Self>> {
        let Some(address) = address else { return Ok(None) };
        let listener = match http::bind(address).await {
            Ok(listener) => Some(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                warn!(
                    %address,
                    "{what} are not answered while another process, such as kube-proxy, holds the port: end it, or name another \
                     address with {flag}; the port is taken over as soon as it is free"
                );
                None
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot serve {what} on {address}: name another address with {flag}"));
            }
        };
        Ok(Some(Self { what, flag, address, listener }))
    }

    /// Waits until the port can be had.
    async fn listener(self) -> TcpListener {
        let Self { what, flag, address, listener } = self;
        if let Some(listener) = listener {
            return listener;
        }
        let mut said = ErrorKind::AddrInUse;
        loop {
            sleep(RETRY).await;
            match http::bind(address).await {
                Ok(listener) => {
                    info!(%address, "{what} are answered: the port was given up");
                    return listener;
                }
                Err(error) if error.kind() == said => {}
                Err(error) => said = refused(what, flag, address, &error),
            }
        }
    }
}

/// The port cannot be had for another reason than before: the address may have left the node meanwhile.
fn refused(what: &str, flag: &str, address: SocketAddr, error: &io::Error) -> ErrorKind {
    warn!(%address, %error, "{what} are not answered: name another address with {flag}; it is tried again");
    error.kind()
}

async fn serve(place: Option<Place>, handler: Arc<dyn Fn(&str) -> Answer + Send + Sync>) -> Infallible {
    match place {
        Some(place) => http::serve(place.listener().await, handler).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: n1\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Of servers on free ports: those of health and of metrics.
    async fn serving(health: &Arc<Health>) -> [SocketAddr; 2] {
        let anywhere = Some("127.0.0.1:0".parse().unwrap());
        let listeners = Listeners::bind(anywhere, anywhere).await.unwrap();
        let places = [&listeners.health, &listeners.metrics].map(|place| place.as_ref().unwrap());
        let addresses = places.map(|place| place.listener.as_ref().unwrap().local_addr().unwrap());
        let health = Arc::clone(health);
        tokio::spawn(
            async move { listeners.serve(health, &Metrics::new(), &Pins::at("/nowhere"), Arc::default()).await },
        );
        addresses
    }

    #[tokio::test]
    async fn a_node_whose_changes_have_waited_for_more_than_a_minute_says_so_until_they_are_in_the_maps() {
        let health = Arc::new(Health::default());
        let [address, _] = serving(&health).await;
        // The kernel's clock began before this machine's tests by far more.
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        for (waited, status) in [(50, 200), (61, 503)] {
            health.settled(Timestamp::UNIX_EPOCH);
            health.queued(ago(waited));
            for path in ["/healthz", "/livez"] {
                let answer = ask(address, path).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{waited} s, {path}: {answer}");
            }
        }
        health.settled(Timestamp::UNIX_EPOCH);
        let answer = ask(address, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        for part in
            ["content-type: application/json\r\n", "x-content-type-options: nosniff\r\n", "\"nodeEligible\":true"]
        {
            assert!(answer.contains(part), "{part}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_port_that_another_holds_is_taken_over_and_an_address_of_nobody_is_refused() {
        let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = holder.local_addr().unwrap();
        let place = Place::bind(Some(address), "metrics", "--metrics-addr").await.unwrap().unwrap();
        assert!(place.listener.is_none());
        drop(holder);
        assert_eq!(place.listener().await.local_addr().unwrap(), address);
        let nobodys = Some("192.0.2.1:10249".parse().unwrap());
        let error = Place::bind(nobodys, "metrics", "--metrics-addr").await.err().unwrap().to_string();
        assert!(error.contains("192.0.2.1:10249") && error.contains("--metrics-addr"), "{error}");
    }
}
