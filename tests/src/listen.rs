//! A process that listens at one address only, as NodeLocal DNSCache and many an sshd do.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener, UdpSocket},
    thread,
};

use anyhow::Result;

use crate::{netns::Netns, probe::Greeting};

/// Answers by `name` at this address of the namespace, over TCP and UDP, once a connection. Ends with the test.
///
/// # Errors
/// If the namespace does not have the address, or somebody listens there.
pub fn listen(netns: &Netns, name: &'static str, at: SocketAddr) -> Result<()> {
    let bound = netns.run(|| TcpListener::bind(at).and_then(|streams| Ok((streams, UdpSocket::bind(at)?))))?;
    let (streams, datagrams) = bound?;
    let greeting = move |client| {
        let text = serde_json::to_string(&Greeting { name: name.into(), client }).unwrap_or_default();
        text + "\n"
    };
    thread::spawn(move || {
        for stream in streams.incoming() {
            // A client that went away is no matter of ours.
            let _ = stream.and_then(|mut stream| stream.write_all(greeting(stream.peer_addr()?).as_bytes()));
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 512];
        loop {
            let Ok((_, client)) = datagrams.recv_from(&mut buffer) else { continue };
            let _ = datagrams.send_to(greeting(client).as_bytes(), client);
        }
    });
    Ok(())
}
