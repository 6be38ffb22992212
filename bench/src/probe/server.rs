//! Answers TCP connections and UDP datagrams by the first byte that they send; a datagram is an echo's where it says nothing
//! else. Both families, one port.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};

use super::client::STREAMED;

/// One request, one response.
pub const ONCE: u8 = b'o';
/// Requests and responses until the client ends.
pub const KEPT: u8 = b'k';
/// Bytes without end; one byte says that another [`STREAMED`] of them have come.
pub const STREAM: u8 = b's';
/// The address that was asked, as text.
pub const WHO: u8 = b'w';
/// A datagram that is counted and not answered.
pub const FLOOD: u8 = b'f';
/// How many of them have come to all addresses together, as text.
pub const COUNT: u8 = b'c';

/// Serves until it is killed. `::` takes TCP over IPv4 too, as IPv4-mapped addresses; UDP has a socket for each address,
/// so that an answer leaves from the address that was asked.
pub fn run(port: u16, addresses: &[IpAddr]) -> Result<()> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listener = TcpListener::bind(any).with_context(|| format!("bind TCP port {port}"))?;
    let flooded = Arc::new(AtomicU64::new(0));
    for &address in addresses {
        let socket = UdpSocket::bind((address, port)).with_context(|| format!("bind UDP {address}, port {port}"))?;
        let flooded = Arc::clone(&flooded);
        thread::spawn(move || answer_datagrams(&socket, &flooded));
    }
    println!("ready");
    for stream in listener.incoming().flatten() {
        serve(stream);
    }
    Ok(())
}

/// What is short is answered on this thread: starting another one would cost more than the connection.
fn serve(mut stream: TcpStream) {
    let mut request = [0; 64];
    // A client that only connects closes without a byte, and one that is gone already is no failure of the server.
    let Ok(read @ 1..) = stream.read(&mut request) else { return };
    let request = &request[..read];
    match request[0] {
        KEPT => {
            let _ = stream.set_nodelay(true);
            let _ = stream.write_all(request);
            thread::spawn(move || echo_stream(stream));
        }
        STREAM => drop(thread::spawn(move || take_stream(stream, read))),
        WHO => {
            let address = stream.local_addr().map(|address| address.ip().to_canonical().to_string());
            let _ = stream.write_all(address.unwrap_or_default().as_bytes());
        }
        _ => {
            let _ = stream.write_all(request);
        }
    }
}

fn echo_stream(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}

/// `taken`: bytes that were read before.
fn take_stream(mut stream: TcpStream, mut taken: usize) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        taken += read;
        while taken >= STREAMED {
            taken -= STREAMED;
            if stream.write_all(&[STREAM]).is_err() {
                return;
            }
        }
    }
}

fn answer_datagrams(socket: &UdpSocket, flooded: &AtomicU64) {
    let mut buffer = [0; 2048];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
        match buffer[..length].first() {
            Some(&FLOOD) => {
                flooded.fetch_add(1, Ordering::Relaxed);
            }
            // As above.
            Some(&COUNT) => {
                let _ = socket.send_to(flooded.load(Ordering::Relaxed).to_string().as_bytes(), peer);
            }
            _ => {
                let _ = socket.send_to(&buffer[..length], peer);
            }
        }
    }
}
