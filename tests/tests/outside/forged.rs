//! Segments of others in a connection's name: a client outside, or a pod, talks, and somebody who knows its ports sends resets.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
};

use millrace_tests::{
    manifests::Service,
    packet::{Flags, Packet},
    probe::Greeting,
    wire::Wire,
};
use serde_json::Value;

use crate::world::{
    Backend, CLUSTER_IP, PATIENCE, UPLINK_MAC, VIP, World, at, name, node_port, servers, service, worlds,
};

const PORT: u16 = 8070;

/// A connection, and the server's answers on it.
struct Talk {
    connection: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Talk {
    fn open(connection: TcpStream) -> (Self, Greeting) {
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection.set_nodelay(true).unwrap();
        let mut talk = Self { lines: BufReader::new(connection.try_clone().unwrap()), connection };
        let greeting = talk.hear();
        (talk, greeting)
    }

    fn hear(&mut self) -> Greeting {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn ask(&mut self) -> Greeting {
        self.connection.write_all(b"who\n").unwrap();
        self.hear()
    }

    fn client(&self) -> SocketAddr {
        self.connection.local_addr().unwrap()
    }
}

/// What n1's tables say of connections, of either direction: entries whose last segment was a reset, and all.
fn entries(world: &World) -> (usize, usize) {
    let flows: Vec<Value> = serde_json::from_str(&world.agent.as_ref().unwrap().ask(&["conntrack"]).unwrap()).unwrap();
    let connections: Vec<_> = flows.iter().filter(|flow| flow["protocol"] == "TCP").collect();
    let reset = |flow: &&&Value| flow["state"].as_array().unwrap().iter().any(|bit| bit == "rst");
    (connections.iter().filter(reset).count(), connections.len())
}

/// In the name of `from`, which never sent it: with a sequence number that its receiver does not expect.
fn reset(link: &Wire, mac: [u8; 6], from: SocketAddr, to: SocketAddr) {
    let mut packet = Packet::tcp(from, to, Flags::RST);
    packet.destination_mac = mac;
    link.send(&packet.frame()).unwrap();
}

/// The connection goes on with the same backend, from the same port, and is kept like any other one: its next segments undo
/// what the resets said.
#[test]
fn a_client_outside_notices_nothing_of_resets_in_its_name() {
    for mut world in worlds() {
        let _servers = servers(&world, &Backend::ALL, PORT);
        let link = world.uplink();
        for backend in [Backend::There, Backend::Here, Backend::Host] {
            world.serve(&service(&[backend], PORT));
            let talks = [node_port(false), at(VIP, 80, false), node_port(true), at(VIP, 80, true)].map(|to| {
                let connect = || TcpStream::connect_timeout(&to, PATIENCE).unwrap();
                let (talk, seen) = Talk::open(world.network.outside.run(connect).unwrap());
                assert_eq!(seen.name, name(backend), "{to}");
                (to, talk, seen)
            });
            // Whoever is chosen anew is another.
            world.serve(&service(&[Backend::OtherHost], PORT));
            for (to, mut talk, seen) in talks {
                for _ in 0..3 {
                    reset(&link, UPLINK_MAC, talk.client(), to);
                    if backend == Backend::There {
                        reset(&link, UPLINK_MAC, at(backend.v4(), PORT, to.is_ipv6()), seen.client);
                    }
                    assert_eq!(talk.ask(), seen, "{to}, {:?}", world.entry);
                }
            }
        }
        let (reset, all) = entries(&world);
        assert!(reset == 0 && all > 0, "{reset} of {all} entries are kept as if the connection were over");
        world.assert_served_as_entered();
    }
}

/// The same of a pod's connection whose packets are translated (its thread is in no node's cgroup, so that no hook serves it),
/// and of segments that it sends itself in the name of its connection.
#[test]
fn a_pod_notices_nothing_of_resets_in_its_connections_name() {
    for mut world in worlds().take(1) {
        let _servers = servers(&world, &[Backend::There], PORT);
        world.serve(&Service { load_balancer: None, ..service(&[Backend::There], PORT) });
        let pod = world.network.node("n1").unwrap().pod("here").unwrap();
        let (link, out) = (world.uplink(), Wire::open(&pod.netns, "eth0").unwrap());
        let mut talks = Vec::new();
        for v6 in [false, true] {
            let to = at(CLUSTER_IP, 80, v6);
            let connect = || TcpStream::connect_timeout(&to, PATIENCE).unwrap();
            let (mut talk, seen) = Talk::open(pod.netns.run(connect).unwrap());
            assert_eq!(seen.client, talk.client(), "a pod is seen as itself");
            for _ in 0..3 {
                reset(&out, pod.host_mac, talk.client(), to);
                reset(&link, UPLINK_MAC, at(Backend::There.v4(), PORT, v6), talk.client());
                assert_eq!(talk.ask(), seen, "{to}");
            }
            talks.push(talk);
        }
        assert_eq!(entries(&world), (0, 4), "two entries for each");
    }
}
