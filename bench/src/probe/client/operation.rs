//! One operation: a connection, a request, a datagram, a piece of a stream.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{
    libc,
    sys::socket::{setsockopt, sockopt::Linger},
};
use serde::{Deserialize, Serialize};

use crate::probe::server::{KEPT, ONCE, STREAM};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of one operation of a stream, which the server acknowledges as a whole.
pub const STREAMED: usize = 4 << 20;
const PIECE: usize = 256 << 10;

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// connect() of a new TCP socket.
    Connect,
    /// A new TCP connection, one request, its response.
    Request,
    /// One request and response over a TCP connection that stays.
    Kept,
    /// One request and response over a UDP socket that stays.
    Datagram,
    /// 4 MiB over a TCP connection that stays, and the server's word that it has them.
    Stream,
}

/// The sockets to one target that outlive an operation, each opened when it is first needed.
#[derive(Debug)]
pub(super) struct Sockets<'a> {
    addresses: &'a [SocketAddr],
    next: usize,
    datagrams: Option<UdpSocket>,
    kept: Option<TcpStream>,
    stream: Option<TcpStream>,
    bytes: Vec<u8>,
}

impl<'a> Sockets<'a> {
    pub(super) const fn of(addresses: &'a [SocketAddr]) -> Self {
        Self { addresses, next: 0, datagrams: None, kept: None, stream: None, bytes: Vec::new() }
    }

    /// How long it took. Opening what stays is not part of it.
    pub(super) fn perform(&mut self, operation: Operation) -> Result<Duration> {
        // What stays is one flow, and a service gives a flow one endpoint.
        let first = self.addresses[0];
        match operation {
            Operation::Connect => connect(self.turn()),
            Operation::Request => request(self.turn()),
            Operation::Datagram => exchange(opened(&mut self.datagrams, || datagram_socket(first))?, first),
            Operation::Kept => ask(opened(&mut self.kept, || lasting(first))?, KEPT, first),
            Operation::Stream => {
                self.bytes.resize(PIECE, STREAM);
                push(opened(&mut self.stream, || lasting(first))?, &self.bytes, first)
            }
        }
    }

    fn turn(&mut self) -> SocketAddr {
        self.next = (self.next + 1) % self.addresses.len();
        self.addresses[self.next]
    }
}

fn opened<T>(socket: &mut Option<T>, open: impl FnOnce() -> Result<T>) -> Result<&mut T> {
    match socket {
        Some(socket) => Ok(socket),
        None => Ok(socket.insert(open()?)),
    }
}

fn connect(target: SocketAddr) -> Result<Duration> {
    let start = Instant::now();
    let stream = TcpStream::connect(target).with_context(|| format!("connect to {target}"))?;
    let took = start.elapsed();
    end_at_once(&stream)?;
    Ok(took)
}

/// Reset instead of TIME_WAIT, so that no run starves of ports.
pub(super) fn end_at_once(stream: &TcpStream) -> Result<()> {
    setsockopt(stream, Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).context("set SO_LINGER")
}

fn request(target: SocketAddr) -> Result<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(target).with_context(|| format!("connect to {target}"))?;
    ask(&mut stream, ONCE, target)?;
    let took = start.elapsed();
    end_at_once(&stream)?;
    Ok(took)
}

fn lasting(target: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(target).with_context(|| format!("connect to {target}"))?;
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    stream.set_read_timeout(Some(TIMEOUT)).context("set a read timeout")?;
    Ok(stream)
}

fn ask(stream: &mut TcpStream, manner: u8, target: SocketAddr) -> Result<Duration> {
    let mut buffer = [0; 64];
    let start = Instant::now();
    stream.write_all(&[manner; 64]).with_context(|| format!("send to {target}"))?;
    stream.read_exact(&mut buffer).with_context(|| format!("no answer from {target}"))?;
    Ok(start.elapsed())
}

fn push(stream: &mut TcpStream, bytes: &[u8], target: SocketAddr) -> Result<Duration> {
    let start = Instant::now();
    for _ in 0..STREAMED / bytes.len() {
        stream.write_all(bytes).with_context(|| format!("stream to {target}"))?;
    }
    stream.read_exact(&mut [0]).with_context(|| format!("{target} does not acknowledge a stream"))?;
    Ok(start.elapsed())
}

pub(super) fn datagram_socket(target: SocketAddr) -> Result<UdpSocket> {
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
