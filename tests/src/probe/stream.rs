//! One socket that goes on talking: a connection must not break, a UDP flow must move.

use std::{
    io::{self, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use super::{
    Manner, Outcome, Protocol, StreamLine,
    attempt::{connect, exchange, open, outcome, read_greeting},
};

/// Exchanges until standard input ends; prints a [`StreamLine`] whenever the outcome changes, and one at the end.
///
/// # Errors
/// If nobody reads what it prints.
pub fn stream(to: SocketAddr, manner: &Manner) -> io::Result<()> {
    let ended = end_of_input();
    let start = Instant::now();
    let mut talk = talk(to, manner);
    let (mut last, mut exchanges) = (None, 0);
    loop {
        let outcome = outcome(talk());
        let broken = manner.protocol == Protocol::Tcp && outcome.server().is_none();
        exchanges += 1;
        let line = StreamLine { at: start.elapsed().as_secs_f64() * 1e3, exchanges, outcome };
        let end = broken || ended.load(Ordering::Relaxed);
        if end || last.as_ref() != Some(&line.outcome) {
            writeln!(io::stdout(), "{}", serde_json::to_string(&line)?)?;
        }
        if end {
            return Ok(());
        }
        last = Some(line.outcome);
        thread::sleep(manner.every());
    }
}

/// True once standard input has ended: whoever started this is done, or gone.
pub(super) fn end_of_input() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ended);
    thread::spawn(move || {
        drop(io::stdin().read_to_end(&mut Vec::new()));
        flag.store(true, Ordering::Relaxed);
    });
    ended
}

type Talk = Box<dyn FnMut() -> io::Result<Outcome>>;

/// One exchange each time it is called, all on the same socket.
fn talk(to: SocketAddr, manner: &Manner) -> Talk {
    let protocol = manner.protocol;
    if protocol != Protocol::Tcp {
        return match open(to, manner) {
            Ok(socket) => Box::new(move || exchange(&socket, to, protocol)),
            Err(error) => fail(error),
        };
    }
    match connect(to, manner) {
        Ok(connection) => {
            let mut reader: Option<BufReader<TcpStream>> = None;
            Box::new(move || {
                let reader = match &mut reader {
                    // The first greeting comes unasked.
                    None => reader.insert(BufReader::new(connection.try_clone()?)),
                    Some(reader) => {
                        (&connection).write_all(b"who\n")?;
                        reader
                    }
                };
                Ok(Outcome::Answered { greeting: read_greeting(reader)?, peer: connection.peer_addr()? })
            })
        }
        Err(error) => fail(error),
    }
}

fn fail(error: io::Error) -> Talk {
    let mut error = Some(error);
    Box::new(move || Err(error.take().unwrap_or_else(|| io::ErrorKind::NotConnected.into())))
}
