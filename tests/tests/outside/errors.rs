//! ICMP errors, as the sockets at both ends report them.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use millrace_tests::{
    address::in_family,
    client,
    manifests::Service,
    network::OUTSIDE,
    probe::{Manner, Outcome, Protocol},
};
use nix::sys::socket::{setsockopt, sockopt};

use crate::world::{Backend, PATIENCE, World, any, bind, node_port, service, udp, worlds};

/// Nobody listens on this port of any backend.
const SILENT: u16 = 8099;
const BULK: usize = 400_000;
const NARROW: u32 = 1300;

/// A backend's kernel says that nobody listens: the client hears it from the node port that it asked.
#[test]
fn a_client_is_refused_by_the_backend_behind_the_node_port() {
    for mut world in worlds() {
        for (backend, external_local) in Backend::under_every_policy() {
            world.serve(&Service { external_local, ..service(&[backend], SILENT) });
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let to = [node_port(false), node_port(true)];
                let attempts =
                    client::connect(&world.outside(), &to, 4, &Manner { timeout: 20_000, ..Manner::of(protocol) })
                        .unwrap();
                let refused = attempts.iter().all(|attempt| attempt.outcome == Outcome::Refused);
                assert!(refused && attempts.len() == 4, "{backend:?}, Local {external_local}: {attempts:?}");
            }
        }
    }
}

/// A client that is gone refuses what a backend still sends: the backend's socket hears of it.
#[test]
fn a_backend_hears_that_its_client_is_gone() {
    for mut world in worlds() {
        for (backend, external_local) in Backend::under_every_policy() {
            world.serve(&Service { external_local, ..service(&[backend], SILENT) });
            for v6 in [false, true] {
                let server = udp(world.netns(backend), SocketAddr::new(any(v6), SILENT));
                let client = world.client(v6);
                client.send(b"question").unwrap();
                let (_, seen) = server.recv_from(&mut [0; 64]).unwrap();
                server.connect(seen).unwrap();
                server.send(b"answer").unwrap();
                assert_eq!(client.recv(&mut [0; 64]).unwrap(), 6);
                drop(client);
                let error = more(&server);
                assert_eq!(
                    error.raw_os_error(),
                    Some(libc::ECONNREFUSED),
                    "{backend:?}, Local {external_local}: {error}"
                );
            }
        }
    }
}

/// Sends until the socket hears of an error. The client may live for a moment, in a child that another test of this process
/// is about to turn into something else.
fn more(server: &UdpSocket) -> io::Error {
    server.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = server.send(b"more").and_then(|_| server.recv(&mut [0; 64])).unwrap_err();
        if error.kind() != io::ErrorKind::WouldBlock || Instant::now() > deadline {
            return error;
        }
    }
}

/// A packet whose hops are used up at the node, or between the node and the backend: a traceroute through a node port works.
#[test]
fn a_client_hears_where_its_hops_were_used_up() {
    for mut world in worlds() {
        world.serve(&service(&[Backend::There], SILENT));
        for (v6, hops) in [(false, 2), (false, 3), (true, 2), (true, 3)] {
            let client = world.client(v6);
            if v6 {
                setsockopt(&client, sockopt::Ipv6Ttl, &hops).unwrap();
                setsockopt(&client, sockopt::Ipv6RecvErr, &true).unwrap();
            } else {
                client.set_ttl(hops.cast_unsigned()).unwrap();
                setsockopt(&client, sockopt::Ipv4RecvErr, &true).unwrap();
            }
            client.send(b"question").unwrap();
            let error = client.recv(&mut [0; 64]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EHOSTUNREACH), "IPv6 {v6}, {hops} hops: {error}");
        }
    }
}

/// A connection that carries much in both directions, when a link on the way carries less than both ends believe.
#[test]
fn connections_pass_links_that_are_narrower_than_their_ends() {
    for mut world in worlds() {
        // On the way to the pod of this node: found out by the program on the uplink.
        let here = world.network.node("n1").unwrap().pod("here").unwrap();
        world.network.node("n1").unwrap().netns.ip(&[format!("link set {} mtu {NARROW}", here.device)]).unwrap();
        here.netns
            .ip(&[
                format!("link set eth0 mtu {NARROW}"),
                "route change default via 169.254.1.1 dev eth0 advmss 1460".to_owned(),
                "route replace default via fe80::1 dev eth0 advmss 1440".to_owned(),
            ])
            .unwrap();
        // On the way to the other node's pod: found out by that node, which complains to this one.
        let there = world.network.node("n2").unwrap();
        let (pod, device) = (there.pod("there").unwrap(), &there.pod("there").unwrap().device);
        there
            .netns
            .ip(&[
                format!("route replace {}/32 dev {device} scope link mtu lock {NARROW}", pod.v4),
                format!("route replace {}/128 dev {device} mtu lock {NARROW}", pod.v6),
            ])
            .unwrap();
        // On the way back to the client: found out by the router.
        let routes =
            [false, true].map(|v6| format!("route add {} dev outside mtu lock {NARROW}", in_family(OUTSIDE, v6)));
        world.network.router.ip(&routes).unwrap();

        for (backend, external_local) in Backend::under_every_policy() {
            world.serve(&Service { external_local, ..service(&[backend], SILENT) });
            for v6 in [false, true] {
                let what = format!("{backend:?}, Local {external_local}, IPv6 {v6}");
                bulk(&world, backend, v6, &what);
            }
        }
    }
}

/// Sends `BULK` bytes to a backend that sends them back.
fn bulk(world: &World, backend: Backend, v6: bool, what: &str) {
    let at = SocketAddr::new(any(v6), SILENT);
    let server = bind(world.netns(backend), || TcpListener::bind(at));
    let echo = thread::spawn(move || {
        let (mut connection, _) = server.accept()?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let mut bytes = Vec::new();
        connection.read_to_end(&mut bytes)?;
        connection.write_all(&bytes)
    });
    let mut client =
        world.network.outside.run(|| TcpStream::connect_timeout(&node_port(v6), PATIENCE)).unwrap().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let sent: Vec<u8> = (0..BULK).map(|i| i.to_le_bytes()[0]).collect();
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    let result = client.read_to_end(&mut received);
    let echoed = echo.join().unwrap();
    assert!(result.is_ok() && received == sent, "{what}: {result:?}, {} bytes came back, {echoed:?}", received.len());
}

/// A datagram that does not fit is reported to its sender, whose next one fits.
#[test]
fn a_large_datagram_is_reported_to_its_sender() {
    for mut world in worlds() {
        let n1 = world.network.node("n1").unwrap();
        n1.netns.ip(&[format!("link set {} mtu {NARROW}", n1.pod("here").unwrap().device)]).unwrap();
        world.serve(&service(&[Backend::Here], SILENT));
        for v6 in [false, true] {
            let server = udp(world.netns(Backend::Here), SocketAddr::new(any(v6), SILENT));
            let client = world.client(v6);
            if v6 {
                setsockopt(&client, sockopt::Ipv6DontFrag, &true).unwrap();
            }
            // The node learns where its pod is, as it does from the first packet that fits.
            exchange(&client, &server, 10);
            client.send(&[7; 1400]).unwrap();
            let error = (0..2000).find_map(|_| {
                thread::sleep(Duration::from_millis(10));
                client.take_error().unwrap()
            });
            assert_eq!(error.and_then(|e| e.raw_os_error()), Some(libc::EMSGSIZE), "IPv6 {v6}");
            exchange(&client, &server, 1200);
        }
    }
}

fn exchange(client: &UdpSocket, server: &UdpSocket, length: usize) {
    client.send(&vec![7; length]).unwrap();
    let (received, seen) = server.recv_from(&mut [0; 2000]).unwrap();
    assert_eq!(received, length);
    server.send_to(b"answer", seen).unwrap();
    assert_eq!(client.recv(&mut [0; 64]).unwrap(), 6);
}
