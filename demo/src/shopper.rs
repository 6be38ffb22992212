//! The client in each zone: asks every service in turn, each time over a new connection (or a new UDP socket), and
//! counts who answered.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::Write,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1,
    header::{CONNECTION, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, stdin},
    net::{TcpStream, UdpSocket},
    time::{interval, sleep, timeout},
};

use crate::pod::Card;

/// Requests under way at a time.
const WORKERS: usize = 4;
/// Between a worker's requests: a few hundred a second leave a small machine room for the rest.
const PAUSE: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it reports.
pub(crate) const REPORT: Duration = Duration::from_millis(100);

/// A service as a client knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) service: String,
    /// The ClusterIPs, asked in turn.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) udp: bool,
}

/// All since the start, by service.
pub(crate) type Report = BTreeMap<String, Count>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count {
    /// Answers by pod.
    pub(crate) answered: BTreeMap<String, u64>,
    /// Connections that were refused at once.
    pub(crate) refused: u64,
    /// Any other failure.
    pub(crate) failed: u64,
    /// The first failure, in words.
    pub(crate) problem: Option<String>,
}

/// Asks until standard input ends, printing a [`Report`] a line.
pub(crate) async fn shop(targets: Vec<Target>) -> Result<()> {
    let report = Rc::new(RefCell::new(Report::new()));
    let workers = tokio::task::LocalSet::new();
    for worker in 0..WORKERS {
        let (report, targets) = (Rc::clone(&report), targets.clone());
        workers.spawn_local(async move {
            for round in worker.. {
                // Workers start at different targets, and the families alternate.
                let target = &targets[round % targets.len()];
                let address = target.addresses[round / targets.len() % target.addresses.len()];
                let result = timeout(PATIENCE, ask(target, address)).await;
                let result =
                    result.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer from {address} in {PATIENCE:?}")));
                report.borrow_mut().entry(target.service.clone()).or_default().add(result);
                sleep(PAUSE).await;
            }
        });
    }
    let printed = async {
        let mut ticks = interval(REPORT);
        loop {
            ticks.tick().await;
            let line = serde_json::to_string(&*report.borrow())?;
            writeln!(std::io::stdout(), "{line}")?;
        }
    };
    let (mut input, mut rest) = (stdin(), Vec::new());
    workers
        .run_until(async {
            tokio::select! {
                result = printed => result,
                _ = input.read_to_end(&mut rest) => Ok(()),
            }
        })
        .await
}

impl Count {
    fn add(&mut self, result: Result<Card>) {
        match result {
            Ok(card) => *self.answered.entry(card.pod).or_default() += 1,
            Err(error) if is_refusal(&error) => self.refused += 1,
            Err(error) => {
                self.failed += 1;
                self.problem.get_or_insert(format!("{error:#}"));
            }
        }
    }
}

fn is_refusal(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

async fn ask(target: &Target, address: SocketAddr) -> Result<Card> {
    if target.udp { query(address).await } else { fetch(&target.service, address).await }
}

/// One HTTP request over a connection of its own.
async fn fetch(host: &str, address: SocketAddr) -> Result<Card> {
    // Without context: a refusal is known by its kind.
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/").header(HOST, host).header(CONNECTION, "close").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.with_context(|| format!("GET http://{address}/"))?;
    ensure!(response.status().is_success(), "GET http://{address}/: {}", response.status());
    let body = response.into_body().collect().await.with_context(|| format!("GET http://{address}/"))?;
    Ok(serde_json::from_slice(&body.to_bytes())?)
}

/// One query over a connected socket of its own, as a resolver sends it.
async fn query(address: SocketAddr) -> Result<Card> {
    let socket = match address {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?,
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await?,
    };
    socket.connect(address).await?;
    socket.send(b"storefront.shop.svc.cluster.local").await?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).await?;
    Ok(serde_json::from_slice(&answer[..length])?)
}
