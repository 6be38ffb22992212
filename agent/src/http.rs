//! The agent's small HTTP servers: one GET handler each, for health checks and metrics.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tracing::debug;

/// What a handler says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub body: String,
}

impl Answer {
    #[must_use]
    pub fn not_found() -> Self {
        Self { status: StatusCode::NOT_FOUND, content_type: "text/plain", body: "no such path\n".to_owned() }
    }
}

/// Answers each path with what `handler` says, until dropped.
///
/// # Errors
/// Only at the start: the address cannot be listened on.
pub async fn serve(address: SocketAddr, handler: Arc<dyn Fn(&str) -> Answer + Send + Sync>) -> io::Result<Infallible> {
    let listener = TcpListener::bind(address).await?;
    loop {
        // Out of descriptors, or a client that left early: the next one may fare better.
        let Ok((stream, client)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let handler = Arc::clone(&handler);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = respond(&request, handler.as_ref());
                async move { Ok::<_, Infallible>(answer) }
            });
            // The timer bounds how long a client may take to send its request's head.
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                debug!(%client, %error, "connection ended");
            }
        });
    }
}

fn respond(request: &Request<Incoming>, handler: &dyn Fn(&str) -> Answer) -> Response<Full<Bytes>> {
    let answer = if *request.method() == Method::GET { handler(request.uri().path()) } else { Answer::not_found() };
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(answer.content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}
