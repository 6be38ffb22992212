//! The agent's small HTTP servers: one GET handler each, for health checks and metrics. Whoever reaches the node may
//! connect, so a client can neither stay for long nor take the descriptors that the agent itself needs.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{
    Method, Request, Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::debug;

/// Connections that the kernel keeps until they are accepted, as the standard library has it.
const BACKLOG: u32 = 1024;
/// Connections of one server at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// A whole connection: one request and its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a handler says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub body: String,
    /// One more header.
    pub header: Option<(HeaderName, HeaderValue)>,
}

impl Answer {
    #[must_use]
    pub fn new(status: StatusCode, content_type: &'static str, body: String) -> Self {
        Self { status, content_type, body, header: None }
    }

    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "text/plain", "no such path\n".to_owned())
    }

    fn not_allowed() -> Self {
        let body = "only GET and HEAD are answered\n".to_owned();
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "text/plain", body)
    }
}

/// Listens on an address; for 0.0.0.0 on all of both families, or of IPv4 where the node has no IPv6.
///
/// # Errors
/// Those of bind(2).
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if address.ip() != IpAddr::from(Ipv4Addr::UNSPECIFIED) {
        return TcpListener::bind(address).await;
    }
    match bind_both(address.port()) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => TcpListener::bind(address).await,
        result => result,
    }
}

/// Of both families whatever net.ipv6.bindv6only says.
fn bind_both(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv6Addr::UNSPECIFIED, port).into())?;
    socket.listen(BACKLOG)
}

/// Answers each path with what `handler` says, until dropped.
pub async fn serve(listener: TcpListener, handler: Arc<dyn Fn(&str) -> Answer + Send + Sync>) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        // Out of descriptors, or a client that left early: the next one may fare better.
        let Ok((stream, client)) = listener.accept().await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let handler = Arc::clone(&handler);
        tokio::spawn(async move {
            let _place = place;
            match timeout(PATIENCE, answer(stream, handler.as_ref())).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%client, %error, "connection ended"),
                Err(_) => debug!(%client, "connection ended: neither asked nor listened in time"),
            }
        });
    }
}

async fn answer(stream: TcpStream, handler: &(dyn Fn(&str) -> Answer + Send + Sync)) -> hyper::Result<()> {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = respond(&request, handler);
        async move { Ok::<_, Infallible>(answer) }
    });
    // An idle connection that is kept would keep others out.
    http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn respond(request: &Request<Incoming>, handler: &dyn Fn(&str) -> Answer) -> Response<Full<Bytes>> {
    let answer = match *request.method() {
        // hyper leaves the body of an answer to HEAD away.
        Method::GET | Method::HEAD => handler(request.uri().path()),
        _ => Answer::not_allowed(),
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.extend(answer.header);
    response
}
