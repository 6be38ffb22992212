//! The health and metrics servers, as clients that mean no good find them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::StatusCode;
use millrace_agent::http::{Answer, bind, serve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

const BODY: &str = "all is well";

async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handler = |path: &str| match path {
        "/healthz" => Answer::new(StatusCode::OK, "text/plain", BODY.to_owned()),
        // More than a socket's buffers take.
        "/large" => Answer::new(StatusCode::OK, "text/plain", "x".repeat(32 << 20)),
        _ => Answer::not_found(),
    };
    tokio::spawn(async move { serve(listener, Arc::new(handler)).await });
    address
}

/// Everything that the server says until it closes the connection.
async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A reset after an answer is as good as an end.
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8(answer).unwrap()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

#[tokio::test]
async fn a_probe_is_answered_whether_it_asks_for_the_body_or_not() {
    let address = server().await;
    let get = ask(address, b"GET /healthz?verbose HTTP/1.1\r\nHost: n1\r\n\r\n").await;
    assert_eq!((status(&get), get.ends_with(BODY)), ("200", true), "{get}");
    let head = ask(address, b"HEAD /healthz HTTP/1.1\r\nHost: n1\r\n\r\n").await;
    assert_eq!((status(&head), head.ends_with("\r\n\r\n")), ("200", true), "{head}");
    assert!(head.contains(&format!("content-length: {}", BODY.len())), "{head}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
}

/// Probes come to a node by either of its families.
#[tokio::test]
async fn who_listens_everywhere_is_reached_by_both_families() {
    let listener = bind("0.0.0.0:0".parse().unwrap()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for address in ["127.0.0.1", "::1"] {
        TcpStream::connect((address, port)).await.unwrap();
        listener.accept().await.unwrap();
    }
    let only = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    assert_eq!(only.local_addr().unwrap().ip().to_string(), "127.0.0.1");
}

#[tokio::test]
async fn what_is_no_such_question_gets_an_answer_that_says_so() {
    let address = server().await;
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    for (request, wanted) in [
        (&b"GET / HTTP/1.1\r\nHost: n1\r\n\r\n"[..], "404"),
        (b"POST /healthz HTTP/1.1\r\nHost: n1\r\nContent-Length: 3\r\n\r\nabc", "405"),
        (b"DELETE /healthz HTTP/1.1\r\nHost: n1\r\n\r\n", "405"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS\r\n\r\n", "400"),
        (long.as_bytes(), "414"),
    ] {
        let answer = ask(address, request).await;
        assert_eq!(status(&answer), wanted, "{:?}", String::from_utf8_lossy(&request[..20]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_dribbles_or_does_not_read_is_let_go() {
    let address = server().await;
    for request in [&b""[..], b"GET /heal", b"GET /healthz HTTP/1.1\r\nX: 1\r\n", b"GET /large HTTP/1.1\r\n\r\n"] {
        let start = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        if request.starts_with(b"GET /large") {
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        let mut all = Vec::new();
        drop(timeout(Duration::from_secs(60), stream.read_to_end(&mut all)).await.expect("the connection ends"));
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        assert!(all.len() < 32 << 20, "nobody waits for a client that does not read");
    }
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_idle_connections_do_not_keep_a_probe_out() {
    let address = server().await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let answer = timeout(Duration::from_secs(90), ask(address, b"GET /healthz HTTP/1.1\r\nHost: n1\r\n\r\n")).await;
    assert_eq!(status(&answer.expect("an answer")), "200");
}
