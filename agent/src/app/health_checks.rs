//! One small server for each `healthCheckNodePort`: load balancers ask it whether to send this node a Service's traffic.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use ::http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::sleep};
use tracing::{info, warn};

use crate::{
    health::Health,
    http::{self, Answer},
    lb::HealthCheck,
    model::ServiceKey,
};

/// What load balancers are told, Service by Service.
pub(super) type HealthChecks = BTreeMap<ServiceKey, HealthCheck>;

/// Before a port that could not be had is asked for again.
const RETRY: Duration = Duration::from_secs(10);
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// A server under way; it ends when this is dropped.
struct Server {
    service: ServiceKey,
    _task: JoinSet<()>,
}

/// Opens and closes servers as Services come and go; ends when nobody decides any more.
pub(super) async fn serve(mut checks: watch::Receiver<HealthChecks>, health: Arc<Health>) {
    let mut servers: BTreeMap<u16, Server> = BTreeMap::new();
    // What was said of a port that cannot be had, so that it is said once.
    let mut refused: BTreeMap<u16, String> = BTreeMap::new();
    loop {
        let wanted = by_port(&checks.borrow_and_update());
        servers.retain(|port, server| wanted.get(port) == Some(&server.service));
        refused.retain(|port, _| wanted.contains_key(port));
        for (port, service) in wanted {
            let Entry::Vacant(place) = servers.entry(port) else { continue };
            match http::bind((Ipv4Addr::UNSPECIFIED, port).into()).await {
                Ok(listener) => {
                    info!(%service, port, "health checks are answered");
                    refused.remove(&port);
                    place.insert(start(service, listener, checks.clone(), Arc::clone(&health)));
                }
                Err(error) => {
                    let reason = error.to_string();
                    if refused.get(&port) != Some(&reason) {
                        warn!(%service, port, reason, "health checks are not answered; free the port, it is tried again");
                        refused.insert(port, reason);
                    }
                }
            }
        }
        tokio::select! {
            changed = checks.changed() => if changed.is_err() { return },
            () = sleep(RETRY), if !refused.is_empty() => {}
        }
    }
}

/// Of two Services that name one port, which a cluster does not allow, the first by name has it.
fn by_port(checks: &HealthChecks) -> BTreeMap<u16, ServiceKey> {
    let mut ports = BTreeMap::new();
    for (service, check) in checks {
        ports.entry(check.port).or_insert_with(|| service.clone());
    }
    ports
}

fn start(
    service: ServiceKey,
    listener: TcpListener,
    checks: watch::Receiver<HealthChecks>,
    health: Arc<Health>,
) -> Server {
    let asked = service.clone();
    let handler = move |_: &str| {
        let local = checks.borrow().get(&asked).map_or(0, |check| check.local_endpoints);
        answer(&asked, local, health.is_in_step(Instant::now()))
    };
    let mut task = JoinSet::new();
    task.spawn(async move { match http::serve(listener, Arc::new(handler)).await {} });
    Server { service, _task: task }
}

/// As kube-proxy answers, whatever the path
/// (<https://github.com/kubernetes/kubernetes/blob/release-1.33/pkg/proxy/healthcheck/service_health.go>).
fn answer(service: &ServiceKey, local_endpoints: usize, healthy: bool) -> Answer {
    let (namespace, name) = service.parts();
    let body = json!({
        "service": {"namespace": namespace, "name": name},
        "localEndpoints": local_endpoints,
        "serviceProxyHealthy": healthy,
    });
    let status = if healthy && local_endpoints > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut answer = Answer::new(status, "application/json", body.to_string());
    answer.header = Some((WEIGHT, HeaderValue::from(local_endpoints)));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_with_local_endpoints_is_taken_only_while_it_keeps_up() {
        let status = |local, healthy| answer(&ServiceKey::new("shop", "cart"), local, healthy).status.as_u16();
        assert_eq!([status(2, true), status(0, true), status(2, false)], [200, 503, 503]);
    }

    #[test]
    fn the_answer_says_whose_it_is_and_how_much_the_node_can_take() {
        let answer = answer(&ServiceKey::new("shop", "cart"), 2, true);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&answer.body).unwrap(),
            json!({"service": {"namespace": "shop", "name": "cart"}, "localEndpoints": 2, "serviceProxyHealthy": true})
        );
        assert_eq!(answer.header, Some((WEIGHT, HeaderValue::from_static("2"))));
    }

    /// A node that does not keep up is no good to a load balancer, whatever endpoints it has.
    #[tokio::test]
    async fn a_node_that_is_a_minute_behind_is_not_taken() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let service = ServiceKey::new("shop", "cart");
        let check = HealthCheck { port: 0, local_endpoints: 2 };
        let (_checks, asked) = watch::channel(HealthChecks::from([(service.clone(), check)]));
        let health = Arc::new(Health::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _server = start(service, listener, asked, Arc::clone(&health));
        for (waited, status, healthy) in [(50, 200, true), (61, 503, false)] {
            health.settled(jiff::Timestamp::UNIX_EPOCH);
            health.queued(Instant::now().checked_sub(Duration::from_secs(waited)).unwrap());
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: n1\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{waited} s: {answer}");
            assert!(answer.contains(&format!("\"serviceProxyHealthy\":{healthy}")), "{waited} s: {answer}");
        }
    }
}
