//! Who looks while a writer is at work: threads that open connections, each from a client of its own.

use std::{
    env,
    net::{IpAddr, SocketAddr},
    panic,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use aya::programs::SchedClassifier;
use millrace_tests::{
    packet::{Flags, Packet},
    stall,
    test_run::{self, Outcome},
};

const THREADS: usize = 2;
/// Of a writer, on an emulated machine with others beside it.
const PATIENCE: Duration = Duration::from_secs(900);
/// A program takes less than a microsecond, and reads what it has found within nanoseconds: a writer whose grace periods are
/// none would get away with it for hours. So readers stop half of the time, at every place of the program in the end.
const EVERY: Duration = Duration::from_millis(1);
const MOMENT: Duration = Duration::from_millis(1);

/// Connections in each family, of all threads together. Each reads a frontend, a record and a slot. An emulated machine
/// is asked for its kernel's sake, not for how rare a mistake would be.
pub(super) fn floor() -> u32 {
    if env::var_os("MILLRACE_MACHINE").is_some() { 25_000 } else { 1_000_000 }
}

/// Opens connections to each of `frontends` in turn, until there were [`floor`] of them and the writer has done `enough`;
/// asks `judge` about each, with the frontend's place. How many there were. It ends the writer by `stop`, also when a
/// connection went wrong.
pub(super) fn read(
    program: &SchedClassifier,
    client: SocketAddr,
    frontends: &[SocketAddr],
    stop: &AtomicBool,
    enough: impl Fn() -> bool + Sync,
    judge: impl Fn(usize, &Connection, &Outcome) + Sync,
) -> u32 {
    let next = AtomicU32::new(0);
    let deadline = Instant::now() + PATIENCE;
    let open = || {
        let _stop = Stop(stop);
        let _stalls = stall::often(EVERY, MOMENT).unwrap();
        let mut connections: Vec<_> = frontends.iter().map(|to| Connection::new(client, *to)).collect();
        let mut opened = 0;
        // Another thread may have found something wrong.
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= floor() {
                if enough() {
                    break;
                }
                assert!(Instant::now() < deadline, "the writer has not done enough after {PATIENCE:?}");
            }
            let place = number as usize % connections.len();
            let connection = &mut connections[place];
            connection.renumber(number);
            let out = test_run::run(program, &connection.frame, None).unwrap();
            judge(place, connection, &out);
            opened += 1;
        }
        opened
    };
    thread::scope(|scope| {
        let threads = [(); THREADS].map(|()| scope.spawn(open));
        threads.map(|thread| thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))).iter().sum()
    })
}

/// Ends the writer and the readers when it goes out of scope.
pub(super) struct Stop<'a>(pub(super) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The first packet of a connection, sent again and again from another client.
pub(super) struct Connection {
    pub(super) frame: Vec<u8>,
    pub(super) to: SocketAddr,
    source: usize,
    l4: usize,
}

impl Connection {
    fn new(client: SocketAddr, to: SocketAddr) -> Self {
        let frame = Packet::tcp(client, to, Flags::SYN).frame();
        let l3 = 14;
        let (source, l4) = if client.is_ipv4() { (l3 + 12, l3 + 20) } else { (l3 + 8, l3 + 40) };
        Self { frame, to, source, l4 }
    }

    /// Bytes of an address.
    fn width(&self) -> usize {
        if self.to.is_ipv4() { 4 } else { 16 }
    }

    /// The checksums do not matter here: they are carried along.
    fn renumber(&mut self, number: u32) {
        let [a, b, c, d] = number.to_be_bytes();
        let end = self.source + self.width();
        // No backend's address: that would be one that serves itself.
        self.frame[end - 2..end].copy_from_slice(&[a | 0x80, b]);
        self.frame[self.l4..self.l4 + 2].copy_from_slice(&[c, d]);
    }

    /// Where the program sent it.
    pub(super) fn destination(&self, out: &Outcome) -> SocketAddr {
        let at = self.source + self.width();
        let address = &out.frame[at..at + self.width()];
        let ip = match <[u8; 4]>::try_from(address) {
            Ok(v4) => IpAddr::from(v4),
            Err(_) => IpAddr::from(<[u8; 16]>::try_from(address).unwrap()),
        };
        SocketAddr::new(ip, u16::from_be_bytes([out.frame[self.l4 + 2], out.frame[self.l4 + 3]]))
    }
}
