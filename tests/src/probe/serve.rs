//! A server that greets: TCP and UDP on one port, both families on one socket.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::Arc,
    thread,
};

use anyhow::{Context, Result};

use super::Greeting;

/// Serves until it is killed. Prints a line once both sockets are open.
///
/// # Errors
/// If the port is taken.
pub fn serve(name: &str, port: u16) -> Result<()> {
    // The IPv6 wildcard takes IPv4 too (net.ipv6.bindv6only is 0 by default).
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listener = TcpListener::bind(address).with_context(|| format!("TCP {address}"))?;
    let datagrams = UdpSocket::bind(address).with_context(|| format!("UDP {address}"))?;
    println!("ready");
    let name: Arc<str> = name.into();
    let of_datagrams = Arc::clone(&name);
    thread::spawn(move || answer_datagrams(&datagrams, &of_datagrams));
    for connection in listener.incoming() {
        let name = Arc::clone(&name);
        match connection {
            // A client that went away is no matter of ours.
            Ok(connection) => drop(thread::spawn(move || greet(&connection, &name))),
            Err(error) => eprintln!("accept: {error}"),
        }
    }
    Ok(())
}

/// Greets at once, and again for every line.
fn greet(connection: &TcpStream, name: &str) -> io::Result<()> {
    let line = greeting(name, connection.peer_addr()?)?;
    connection.set_nodelay(true)?;
    (&*connection).write_all(&line)?;
    for request in BufReader::new(connection).split(b'\n') {
        request?;
        (&*connection).write_all(&line)?;
    }
    Ok(())
}

fn answer_datagrams(socket: &UdpSocket, name: &str) {
    let mut buffer = [0; 2048];
    loop {
        // An ICMP error of an earlier answer may come up here: it is not the next client's.
        let Ok((_, client)) = socket.recv_from(&mut buffer) else { continue };
        if let Ok(line) = greeting(name, client) {
            drop(socket.send_to(&line, client));
        }
    }
}

fn greeting(name: &str, client: SocketAddr) -> io::Result<Vec<u8>> {
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    let mut line = serde_json::to_vec(&Greeting { name: name.to_owned(), client })?;
    line.push(b'\n');
    Ok(line)
}
