//! Small datagrams as fast as one thread sends them, counted where they arrive.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::operation::datagram_socket;
use crate::probe::server::{COUNT, FLOOD};

/// How long one flood is.
const TIME: Duration = Duration::from_millis(5);
/// Bytes of a datagram: over IPv4 they make the smallest frame that there is.
pub const PAYLOAD: usize = 18;
/// Datagrams before the server has its turn. Its socket's buffer holds hundreds of them, and more than 40 where each
/// takes a whole page.
const BATCH: u32 = 32;

/// Floods of one target, together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flooded {
    pub sent: u64,
    /// At any endpoint.
    pub arrived: u64,
    /// Datagrams that arrived, of each flood: what halts the processor for a while halts one of them.
    pub per_second: Vec<f64>,
    /// Processor time of client and server, the kernel's work for them included.
    pub cpu_nanoseconds: u64,
}

impl Flooded {
    pub fn append(&mut self, other: Self) {
        self.sent += other.sent;
        self.arrived += other.arrived;
        self.per_second.extend(other.per_second);
        self.cpu_nanoseconds += other.cpu_nanoseconds;
    }
}

/// So many floods, of a new connected socket. The first datagrams are a flow's most expensive, and another pod's client has
/// just used the processor's caches: a flood before them does not count. `used` is processor time so far.
pub(super) fn floods(target: SocketAddr, rounds: u32, used: impl Fn() -> Result<Duration>) -> Result<Flooded> {
    let socket = datagram_socket(target)?;
    socket.connect(target).with_context(|| format!("connect to {target}"))?;
    let once = || flood(&socket, &used).with_context(|| format!("a flood to {target}"));
    once()?;
    let mut all = Flooded::default();
    for _ in 0..rounds {
        all.append(once()?);
    }
    Ok(all)
}

fn flood(socket: &UdpSocket, used: impl Fn() -> Result<Duration>) -> Result<Flooded> {
    let before = arrived(socket)?;
    let (start, cpu) = (Instant::now(), used()?);
    let mut sent = 0;
    while start.elapsed() < TIME {
        for _ in 0..BATCH {
            socket.send(&[FLOOD; PAYLOAD]).context("send")?;
        }
        sent += u64::from(BATCH);
        // They share a processor, and the server does not interrupt.
        thread::yield_now();
    }
    let arrived = arrived(socket)? - before;
    let (took, cpu) = (start.elapsed(), used()?.saturating_sub(cpu));
    ensure!(arrived > 0, "none of {sent} datagrams arrived");
    let per_second = vec![arrived as f64 / took.as_secs_f64()];
    Ok(Flooded { sent, arrived, per_second, cpu_nanoseconds: cpu.as_nanos() as u64 })
}

/// Of all floods so far, at all of the server's addresses. The question takes the datagrams' way: it comes after them.
fn arrived(socket: &UdpSocket) -> Result<u64> {
    let mut answer = [0; 32];
    socket.send(&[COUNT]).context("ask for the count")?;
    let length = socket.recv(&mut answer).context("no answer with the count")?;
    let text = String::from_utf8_lossy(&answer[..length]);
    text.parse().with_context(|| format!("{text:?} is no count"))
}
