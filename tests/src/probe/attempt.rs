//! One connection, one exchange: how it ended and how long it took.

use std::{
    io::{self, BufRead, BufReader, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    thread,
    time::Instant,
};

use super::{Attempt, Greeting, Manner, Outcome, Protocol};

/// So many attempts in a row that nobody answers in time are enough to know.
const PATIENCE: usize = 3;

/// Tries `count` times, on a new socket each time unless the protocol says otherwise; fewer where nobody answers.
#[must_use]
pub fn attempts(to: &[SocketAddr], count: usize, manner: &Manner) -> Vec<Attempt> {
    let (mut attempts, mut silent) = (Vec::new(), 0);
    // Kept open: two frontends of one backend, asked from one port, would be one flow to the backend.
    let mut sockets = Vec::new();
    for to in to.iter().cycle().take(count) {
        if !attempts.is_empty() {
            thread::sleep(manner.every());
        }
        let kept = if manner.protocol == Protocol::UdpOneSocket { sockets.pop() } else { None };
        let (attempt, socket) = attempt_on(kept, *to, manner);
        sockets.extend(socket);
        silent = if attempt.outcome == Outcome::Silence { silent + 1 } else { 0 };
        attempts.push(attempt);
        if silent == PATIENCE {
            break;
        }
    }
    attempts
}

/// Tries once. The socket, if it is a UDP one, keeps its port for as long as the caller keeps it.
#[must_use]
pub fn attempt(to: SocketAddr, manner: &Manner) -> (Attempt, Option<UdpSocket>) {
    attempt_on(None, to, manner)
}

fn attempt_on(socket: Option<UdpSocket>, to: SocketAddr, manner: &Manner) -> (Attempt, Option<UdpSocket>) {
    let start = Instant::now();
    let (result, socket) = match manner.protocol {
        Protocol::Tcp => (greeted(to, manner), None),
        _ => match socket.map_or_else(|| open(to, manner), Ok) {
            Ok(socket) => (exchange(&socket, to, manner.protocol), Some(socket)),
            Err(error) => (Err(error), None),
        },
    };
    let attempt = Attempt { to, outcome: outcome(result), milliseconds: start.elapsed().as_secs_f64() * 1e3 };
    (attempt, socket)
}

fn greeted(to: SocketAddr, manner: &Manner) -> io::Result<Outcome> {
    let connection = connect(to, manner)?;
    let greeting = read_greeting(&mut BufReader::new(&connection))?;
    Ok(Outcome::Answered { greeting, peer: connection.peer_addr()? })
}

pub(super) fn connect(to: SocketAddr, manner: &Manner) -> io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&to, manner.timeout())?;
    connection.set_read_timeout(Some(manner.timeout()))?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

/// A UDP socket of the family of `to`, connected if the protocol says so.
pub(super) fn open(to: SocketAddr, manner: &Manner) -> io::Result<UdpSocket> {
    let socket = match to {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
    };
    if manner.protocol == Protocol::Udp {
        socket.connect(to)?;
    }
    socket.set_read_timeout(Some(manner.timeout()))?;
    Ok(socket)
}

/// Sends a datagram and waits for its answer.
pub(super) fn exchange(socket: &UdpSocket, to: SocketAddr, protocol: Protocol) -> io::Result<Outcome> {
    let mut buffer = [0; 2048];
    let (length, peer) = if protocol == Protocol::Udp {
        socket.send(b"who\n")?;
        (socket.recv(&mut buffer)?, socket.peer_addr()?)
    } else {
        socket.send_to(b"who\n", to)?;
        socket.recv_from(&mut buffer)?
    };
    Ok(Outcome::Answered { greeting: serde_json::from_slice(&buffer[..length])?, peer })
}

pub(super) fn read_greeting(reader: &mut impl BufRead) -> io::Result<Greeting> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}

pub(super) fn outcome(result: io::Result<Outcome>) -> Outcome {
    result.unwrap_or_else(|error| match error.kind() {
        ErrorKind::ConnectionRefused => Outcome::Refused,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::Silence,
        _ => Outcome::Failed(error.to_string()),
    })
}
