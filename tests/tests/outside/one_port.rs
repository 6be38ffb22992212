//! A client whose sockets ask several frontends of a Service from one port, where its only endpoint sees the client's own
//! address: two flows that would look the same to the endpoint, and must not be taken for each other.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
};

use millrace_common::verdict::Verdict;
use millrace_tests::{manifests::Service, probe::Greeting};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt::ReuseAddr,
};

use crate::world::{
    Backend, CLUSTER_IP, PATIENCE, VIP, World, any, at, name, node_port, servers, service, udp, worlds,
};

const PORT: u16 = 8070;
/// The client's.
const SOURCE: u16 = 40_000;

/// By each endpoint that is told the client's address, whichever frontend was asked.
#[test]
fn each_frontend_answers_a_client_that_asks_all_of_them_from_one_port() {
    for mut world in worlds() {
        let backends = [Backend::Here, Backend::Host];
        let _servers = servers(&world, &backends, PORT);
        for (number, backend) in (0..).zip(backends) {
            world.serve(&Service { external_local: true, ..service(&[backend], PORT) });
            for v6 in [false, true] {
                let asked = [node_port(v6), at(VIP, 80, v6), at(CLUSTER_IP, 80, v6)];
                datagrams(&world, backend, SocketAddr::new(any(v6), SOURCE + number), &asked);
                connections(&world, backend, SocketAddr::new(any(v6), SOURCE + number), &asked);
            }
        }
        let moved = world.network.node("n1").unwrap().count(Verdict::FlowNewPort).unwrap();
        assert!(moved > 0, "no two flows had the same answers");
    }
}

fn datagrams(world: &World, backend: Backend, from: SocketAddr, asked: &[SocketAddr]) {
    let socket = udp(&world.network.outside, from);
    // All are asked before the first answer is read, and again: each flow stays what it is.
    for _ in 0..3 {
        for to in asked {
            socket.send_to(b"who is there?", to).unwrap();
        }
        let mut answered = Vec::new();
        for _ in asked {
            let mut answer = [0; 2048];
            let (length, by) = socket.recv_from(&mut answer).unwrap();
            assert_eq!(greeted(&answer[..length]), name(backend), "{by}");
            answered.push(by);
        }
        answered.sort();
        let mut all = asked.to_vec();
        all.sort();
        assert_eq!(answered, all, "{backend:?}");
    }
}

fn connections(world: &World, backend: Backend, from: SocketAddr, asked: &[SocketAddr]) {
    let open = || asked.iter().map(|to| connected(from, *to).unwrap()).collect::<Vec<_>>();
    for stream in world.network.outside.run(open).unwrap() {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut lines = BufReader::new(&stream);
        for _ in 0..3 {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            assert_eq!(greeted(line.as_bytes()), name(backend), "{stream:?}");
            (&stream).write_all(b"again\n").unwrap();
        }
    }
}

/// Sockets of one address to different destinations, which the kernel tells apart by these.
fn connected(from: SocketAddr, to: SocketAddr) -> nix::Result<TcpStream> {
    let family = if to.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let socket: OwnedFd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(from))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(socket.into())
}

fn greeted(line: &[u8]) -> String {
    serde_json::from_slice::<Greeting>(line).unwrap().name
}
