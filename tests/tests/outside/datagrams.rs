//! Datagrams that are more than one packet, or less than a usual one.

use std::{net::SocketAddr, os::fd::AsRawFd};

use millrace_tests::{
    address::in_family,
    manifests::Service,
    network::OUTSIDE,
    packet::{Checksum, SeenBody},
    wire::Wire,
};

use crate::world::{Backend, N1, PATIENCE, any, service, udp, worlds};

const PORT: u16 = 8090;

/// Datagrams of several fragments pass in both directions, and each end sees whom it should: a pod the node under
/// policy Cluster, everybody else the client.
#[test]
fn fragments_reach_every_kind_of_backend_and_come_back() {
    for mut world in worlds() {
        for (backend, external_local) in Backend::under_every_policy() {
            world.serve(&Service { external_local, ..service(&[backend], PORT) });
            for v6 in [false, true] {
                let what = format!("{backend:?}, Local {external_local}, IPv6 {v6}");
                let server = udp(world.netns(backend), SocketAddr::new(any(v6), PORT));
                let client = world.client(v6);
                for length in [10, 4000, 20_000] {
                    let question: Vec<u8> = (0..length).map(|i: usize| i.to_le_bytes()[0]).collect();
                    client.send(&question).unwrap();
                    let mut buffer = vec![0; 65536];
                    let (received, seen) =
                        server.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{what}, {length} bytes: {error}"));
                    assert!(buffer[..received] == question, "{what}: {length} bytes became {received}");
                    let kept = external_local || backend == Backend::Host;
                    assert_eq!(seen.ip(), in_family(if kept { OUTSIDE } else { N1 }, v6), "{what}");
                    server.send_to(&question, seen).unwrap();
                    let received =
                        client.recv(&mut buffer).unwrap_or_else(|error| panic!("{what}, {length} bytes back: {error}"));
                    assert!(buffer[..received] == question, "{what}: {length} bytes came back as {received}");
                }
            }
        }
        world.assert_served_as_entered();
    }
}

/// A datagram without a checksum (RFC 768 allows it) stays one, rather than be given half of one.
#[test]
fn a_datagram_without_a_checksum_stays_without() {
    for mut world in worlds() {
        for backend in [Backend::Here, Backend::There] {
            world.serve(&service(&[backend], PORT));
            let server = udp(world.netns(backend), SocketAddr::new(any(false), PORT));
            let client = world.client(false);
            let one: libc::c_int = 1;
            // SAFETY: the option is an int, alive during the call, as long as it is said to be.
            let result = unsafe {
                libc::setsockopt(client.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, (&raw const one).cast(), 4)
            };
            assert_eq!(result, 0);
            let wire = Wire::open(world.netns(backend), "eth0").unwrap();
            client.send(b"question").unwrap();
            let (_, seen) = server.recv_from(&mut [0; 64]).unwrap();
            let packet = wire
                .find(PATIENCE, |packet| packet.destination.port() == PORT)
                .unwrap()
                .expect("it was received, so it came by the wire");
            assert_eq!(packet.checksum, Checksum::None, "{packet:?}");
            assert!(matches!(&packet.body, SeenBody::Udp { payload } if payload == b"question"), "{packet:?}");
            server.send_to(b"answer", seen).unwrap();
            assert_eq!(client.recv(&mut [0; 64]).unwrap(), 6);
        }
        world.assert_served_as_entered();
    }
}
