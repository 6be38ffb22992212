//! Measures several targets in turn, one operation of each at a time: whatever the machine does meanwhile, it does to
//! all of them.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{
    libc,
    sys::socket::{setsockopt, sockopt::Linger},
};
use serde::{Deserialize, Serialize};

const TIMEOUT: Duration = Duration::from_secs(5);
/// Operations of each target before the first that counts: caches, neighbours, sockets' slabs.
const WARM_UP: u32 = 50;

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Operation {
    /// connect() of a new TCP socket.
    Connect,
    /// One request and response over a UDP socket that stays.
    Datagram,
}

/// What one series of samples is about: `LABEL=address:port[,address:port...]`. Several addresses are taken in turn, as
/// a service spreads its clients over its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub label: String,
    pub addresses: Vec<SocketAddr>,
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (label, addresses) = text.split_once('=').context("write a target as LABEL=address:port")?;
        let addresses = addresses
            .split(',')
            .map(|address| address.parse().with_context(|| format!("{address} is no address:port")))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { label: label.to_owned(), addresses })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        write!(f, "{}={}", self.label, addresses.join(","))
    }
}

/// Nanoseconds of each operation, by target's label, in the order they were made.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Samples(pub BTreeMap<String, Vec<u64>>);

/// Every operation must succeed: a failed one ends the run with the target's name.
pub fn run(operation: Operation, targets: &[Target], rounds: u32) -> Result<Samples> {
    let mut samples = Samples::default();
    let sockets = targets.iter().map(|target| datagram_socket(target.addresses[0])).collect::<Result<Vec<_>>>()?;
    for round in 0..WARM_UP + rounds {
        for (target, socket) in targets.iter().zip(&sockets) {
            let address = target.addresses[round as usize % target.addresses.len()];
            let took = match operation {
                Operation::Connect => connect(address)?,
                // A socket that stays is one flow, and a service gives a flow one endpoint.
                Operation::Datagram => exchange(socket, target.addresses[0])?,
            };
            if round >= WARM_UP {
                samples.0.entry(target.label.clone()).or_default().push(took.as_nanos() as u64);
            }
        }
    }
    Ok(samples)
}

fn connect(target: SocketAddr) -> Result<Duration> {
    let start = Instant::now();
    let stream = TcpStream::connect(target).with_context(|| format!("connect to {target}"))?;
    let took = start.elapsed();
    // Reset instead of TIME_WAIT, so that no run starves of ports.
    setsockopt(&stream, Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).context("set SO_LINGER")?;
    Ok(took)
}

fn datagram_socket(target: SocketAddr) -> Result<UdpSocket> {
    let local = match target {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(local).context("bind a UDP socket")?;
    socket.set_read_timeout(Some(TIMEOUT)).context("set a read timeout")?;
    Ok(socket)
}

fn exchange(socket: &UdpSocket, target: SocketAddr) -> Result<Duration> {
    let mut buffer = [0; 64];
    let start = Instant::now();
    socket.send_to(b"millrace", target).with_context(|| format!("send to {target}"))?;
    let (_, peer) = socket.recv_from(&mut buffer).with_context(|| format!("no answer from {target}"))?;
    let took = start.elapsed();
    ensure!(peer == target, "asked {target}, answered by {peer}: the reply was not translated");
    Ok(took)
}
