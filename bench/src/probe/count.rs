//! One whole connection after the other, from its socket to its end: for a machine in which time counts instructions.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

const REQUEST: &[u8] = b"millrace";
/// Connections before the first that counts: caches, neighbours, slabs, the server's first pages.
const WARM_UP: u32 = 50;

/// Nanoseconds from the start of each connection to that of the next one. What the server and the kernel do after the
/// client's end belongs to a connection too.
///
/// # Errors
/// A connection that fails or is answered by something else; with its target.
pub fn run(target: SocketAddr, connections: u32) -> Result<Vec<u64>> {
    let mut starts = Vec::new();
    for _ in 0..WARM_UP + connections {
        starts.push(Instant::now());
        converse(target).with_context(|| format!("a connection to {target}"))?;
    }
    starts.push(Instant::now());
    Ok(starts.windows(2).skip(WARM_UP as usize).map(|pair| (pair[1] - pair[0]).as_nanos() as u64).collect())
}

/// A request, its response, and the server's end, seen before the client's own.
fn converse(target: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(target).context("connect")?;
    stream.write_all(REQUEST).context("send")?;
    let mut response = [0; 64];
    let read = stream.read(&mut response).context("receive")?;
    ensure!(&response[..read] == REQUEST, "the response is not the request's echo");
    ensure!(stream.read(&mut response).context("wait for the end")? == 0, "the server does not end");
    Ok(())
}
