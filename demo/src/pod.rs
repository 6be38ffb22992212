//! What runs in a pod of the shop: an HTTP server, or a UDP server for the DNS-like service. Each says who it is.

use std::{convert::Infallible, net::Ipv6Addr};

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::{Response, body::Bytes, header::CONTENT_TYPE, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UdpSocket};

/// A pod's answer to every request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Card {
    pub(crate) pod: String,
    pub(crate) zone: String,
}

/// Serves until it is killed; prints a line once the port is open.
pub(crate) async fn serve(card: &Card, port: u16, udp: bool) -> Result<()> {
    let answer = Bytes::from(serde_json::to_vec(card)?);
    // The IPv6 wildcard takes IPv4 too.
    let address = (Ipv6Addr::UNSPECIFIED, port);
    if udp {
        let socket = UdpSocket::bind(address).await.with_context(|| format!("UDP port {port}"))?;
        println!("ready");
        let mut query = [0; 512];
        loop {
            // An ICMP error about an earlier answer is reported here too; it concerns no later query.
            if let Ok((_, client)) = socket.recv_from(&mut query).await {
                drop(socket.send_to(&answer, client).await);
            }
        }
    }
    let listener = TcpListener::bind(address).await.with_context(|| format!("TCP port {port}"))?;
    println!("ready");
    loop {
        let (connection, _) = listener.accept().await?;
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(|_| {
                let mut response = Response::new(Full::new(answer.clone()));
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
                async { Ok::<_, Infallible>(response) }
            });
            // A client that hangs up early is no matter of ours.
            drop(http1::Builder::new().serve_connection(TokioIo::new(connection), service).await);
        });
    }
}
