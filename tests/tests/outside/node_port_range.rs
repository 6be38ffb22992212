//! Ports of the range of node ports that a pod or a process of the node has itself: what it sends and is sent there is its
//! own, also where the same number is a Service's node port.

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
};

use millrace_tests::{netns::Netns, probe::Greeting};
use nix::sys::{
    socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt},
    time::TimeVal,
};

use crate::world::{
    Backend, CLUSTER_IP, N1, NODE_PORT, PATIENCE, VIP, World, any, at, name, node_port, servers, service, udp, worlds,
};

const PORT: u16 = 8070;
/// In the range, and nobody's node port.
const FREE: u16 = 30_081;
const LAST: u16 = 32_767;

/// Who answers a connection from this port.
fn connected(netns: &Netns, from: SocketAddr, to: SocketAddr) -> Greeting {
    let family = if to.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let open = || -> nix::Result<OwnedFd> {
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        // Bounds connect, too.
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(20, 0))?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(from))?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
        Ok(socket)
    };
    let open = netns.run(open).unwrap().unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
    let connection = TcpStream::from(open);
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut line = String::new();
    BufReader::new(connection).read_line(&mut line).unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
    serde_json::from_str(&line).unwrap()
}

/// Who answers datagrams from this port, the second as the first.
fn asked(netns: &Netns, from: SocketAddr, to: SocketAddr) -> Greeting {
    let socket = udp(netns, from);
    let ask = || {
        socket.send_to(b"who", to).unwrap();
        let mut answer = [0; 2048];
        let (length, by) = socket.recv_from(&mut answer).unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
        assert_eq!(by, to, "an answer to {from}");
        serde_json::from_slice::<Greeting>(&answer[..length]).unwrap()
    };
    let first = ask();
    assert_eq!(ask(), first, "{from} to {to}");
    first
}

/// From every such port, straight to a pod and through a Service, by every frontend.
fn reaches(world: &World, who: Backend, from: u16, datagrams: bool, to: SocketAddr) {
    let from = SocketAddr::new(any(to.is_ipv6()), from);
    let answer = if datagrams { asked } else { connected }(world.netns(who), from, to);
    assert_eq!(answer.name, name(Backend::There), "{who:?}, {from} to {to}");
}

/// A pod connects from a port of the range, also from the number of a node port.
#[test]
fn a_pod_asks_from_ports_of_the_node_port_range() {
    for mut world in worlds() {
        let _servers = servers(&world, &[Backend::There], PORT);
        world.serve(&service(&[Backend::There], PORT));
        for v6 in [false, true] {
            let straight = at(Backend::There.v4(), PORT, v6);
            for (number, to) in (0..).zip([straight, at(CLUSTER_IP, 80, v6), at(VIP, 80, v6), node_port(v6)]) {
                for from in [NODE_PORT, FREE, LAST] {
                    reaches(&world, Backend::Here, from, true, to);
                    // One connection from one port to the pod, whatever it named.
                    reaches(&world, Backend::Here, from + 2 * number - u16::from(from == LAST) * 20, false, to);
                }
            }
        }
    }
}

/// A process of the node does, straight and through a Service: what answers it comes to the node's own address, by the uplink.
#[test]
fn a_process_of_the_node_asks_from_ports_of_the_node_port_range() {
    for mut world in worlds() {
        let _servers = servers(&world, &[Backend::There, Backend::Here], PORT);
        world.serve(&service(&[Backend::There], PORT));
        for v6 in [false, true] {
            let straight = at(Backend::There.v4(), PORT, v6);
            // The number of a node port, too: an answer to a connection begins nothing.
            for from in [NODE_PORT, FREE, LAST] {
                reaches(&world, Backend::Host, from, false, straight);
            }
            for from in [FREE, LAST] {
                reaches(&world, Backend::Host, from, true, straight);
            }
            for (number, to) in (1..).zip([at(CLUSTER_IP, 80, v6), at(VIP, 80, v6)]) {
                reaches(&world, Backend::Host, FREE + number, false, to);
                reaches(&world, Backend::Host, FREE + number, true, to);
            }
        }
    }
}

/// A pod listens on the number of the node port: it is reached there by its own address and by the Service's, and the node
/// port stays the Service's.
#[test]
fn a_pod_that_listens_on_the_number_of_a_node_port_is_reached_there() {
    for mut world in worlds() {
        let _servers = servers(&world, &[Backend::There, Backend::Here], PORT);
        let _listening = servers(&world, &[Backend::There, Backend::Here], NODE_PORT);
        for (backend, target) in [(Backend::There, PORT), (Backend::There, NODE_PORT), (Backend::Here, NODE_PORT)] {
            world.serve(&service(&[backend], target));
            for v6 in [false, true] {
                let client = SocketAddr::new(any(v6), 0);
                let outside = &world.network.outside;
                for (to, who) in [
                    (node_port(v6), backend),
                    (at(VIP, 80, v6), backend),
                    (at(Backend::Here.v4(), NODE_PORT, v6), Backend::Here),
                    (at(Backend::There.v4(), NODE_PORT, v6), Backend::There),
                ] {
                    assert_eq!(connected(outside, client, to).name, name(who), "{to}, {target}");
                    assert_eq!(asked(outside, client, to).name, name(who), "{to}, {target}");
                }
                // From the node to its own pod: a connection from the number of the node port, too.
                let to = at(Backend::Here.v4(), NODE_PORT, v6);
                assert_eq!(connected(world.netns(Backend::Host), at(N1, NODE_PORT, v6), to).name, "here");
                assert_eq!(asked(world.netns(Backend::Host), at(N1, FREE, v6), to).name, "here");
            }
        }
    }
}
