//! Accepts TCP connections and closes them; echoes UDP datagrams. Both families, one port.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
};

use anyhow::{Context, Result};

/// Serves until it is killed. `::` takes TCP over IPv4 too, as IPv4-mapped addresses; UDP has a socket for each address,
/// so that an answer leaves from the address that was asked.
pub fn run(port: u16, addresses: &[IpAddr]) -> Result<()> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listener = TcpListener::bind(any).with_context(|| format!("bind TCP port {port}"))?;
    for &address in addresses {
        let socket = UdpSocket::bind((address, port)).with_context(|| format!("bind UDP {address}, port {port}"))?;
        thread::spawn(move || echo_datagrams(&socket));
    }
    println!("ready");
    for stream in listener.incoming().flatten() {
        // One request, one response: what a client that measures a whole exchange sends. A client that only
        // connects closes without a byte.
        serve(stream);
    }
    Ok(())
}

fn serve(mut stream: TcpStream) {
    let mut request = [0; 64];
    if let Ok(read) = stream.read(&mut request)
        && read > 0
    {
        // A client that is gone already is no failure of the server.
        let _ = stream.write_all(&request[..read]);
    }
}

fn echo_datagrams(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
        // As above.
        let _ = socket.send_to(&buffer[..length], peer);
    }
}
