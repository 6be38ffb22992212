//! SCTP from a client outside. Not every kernel has its sockets: both ends are raw ones, and the packets are the tests' own.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::Duration,
};

use millrace_common::verdict::Verdict;
use millrace_tests::{
    address::in_family,
    manifests::{Port, Service},
    netns::Netns,
    network::OUTSIDE,
    packet::{
        Checksum, Packet, Seen, SeenBody,
        chunk::{ABORT, COOKIE_ECHO, DATA, INIT, INIT_ACK},
    },
    wire::Wire,
};
use nix::sys::socket::{MsgFlags, SockaddrStorage, sendto};

use crate::world::{Backend, N1, NODE_PORT, PATIENCE, VIP, World, at, node_port, service, worlds};

const PORT: u16 = 9000;
const CLIENT: u16 = 5000;

/// One end: what it sends is routed as a socket's packets are, and the kernel refuses nothing that comes for it.
struct End {
    socket: OwnedFd,
    wire: Wire,
}

impl End {
    fn open(netns: &Netns, device: &str, v6: bool) -> Self {
        let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
        let open = || {
            // SAFETY: a system call without pointers.
            let socket = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_SCTP) };
            assert!(socket >= 0, "{}", io::Error::last_os_error());
            // SAFETY: a descriptor that was just opened, and is nobody else's.
            unsafe { OwnedFd::from_raw_fd(socket) }
        };
        Self { socket: netns.run(open).unwrap(), wire: Wire::open(netns, device).unwrap() }
    }

    /// From the header of SCTP on: the kernel writes its own of IP.
    fn send(&self, packet: &Packet) {
        let bytes = packet.ip_bytes();
        let header = if packet.destination.is_ipv6() { 40 } else { 20 };
        let to = SockaddrStorage::from(SocketAddr::new(packet.destination.ip(), 0));
        sendto(self.socket.as_raw_fd(), &bytes[header..], &to, MsgFlags::empty()).unwrap();
    }

    /// The next packet that is sent to `at` with a chunk of this kind.
    fn gets(&self, at: SocketAddr, kind: u8) -> Option<Seen> {
        let wanted = |seen: &Seen| {
            seen.destination == at && matches!(seen.body, SeenBody::Sctp { chunk: [first, _], .. } if first == kind)
        };
        let seen = self.wire.find(PATIENCE, wanted).unwrap()?;
        assert_eq!((seen.ip_checksum, seen.checksum), (Checksum::Right, Checksum::Right), "{seen:#?}");
        Some(seen)
    }
}

fn of_sctp(backends: &[Backend], external_local: bool) -> Service {
    let port = |node_port| Port { name: "sctp".into(), protocol: "SCTP".into(), port: 80, target: PORT, node_port };
    Service { ports: vec![port(NODE_PORT)], external_local, ..service(backends, PORT) }
}

/// An association is set up and carries a message in both directions, between the addresses that each end should see.
fn associates(world: &World, backend: Backend, local: bool, to: SocketAddr, client: SocketAddr) {
    let what = format!("{backend:?}, Local {local}, {to}, {:?}", world.entry);
    let v6 = to.is_ipv6();
    let outside = End::open(&world.network.outside, "eth0", v6);
    let device = if matches!(backend, Backend::Here | Backend::There) { "eth0" } else { "uplink" };
    let server = End::open(world.netns(backend), device, v6);
    let served = at(backend.v4(), PORT, v6);
    let mut known = None;
    for (question, answer) in [(INIT, INIT_ACK), (COOKIE_ECHO, DATA), (DATA, DATA)] {
        outside.send(&Packet::sctp(client, to, question));
        // The process of the node sees what comes by its uplink before it is translated.
        let seen = if backend == Backend::Host {
            client
        } else {
            server.gets(served, question).unwrap_or_else(|| panic!("{what}: no chunk {question}")).source
        };
        let hidden = !local && backend != Backend::Host;
        assert_eq!(seen.ip(), in_family(if hidden { N1 } else { OUTSIDE }, v6), "{what}");
        assert_eq!(*known.get_or_insert(seen), seen, "{what}");
        server.send(&Packet::sctp(served, seen, answer));
        let back = outside.gets(client, answer).unwrap_or_else(|| panic!("{what}: no chunk {answer} back"));
        assert_eq!(back.source, to, "{what}");
    }
}

/// By its node port and by its VIP, with a backend on either node, and under both policies.
#[test]
fn a_client_outside_holds_an_association_with_every_kind_of_backend() {
    for mut world in worlds() {
        let mut ports = CLIENT..;
        for (backend, local) in Backend::under_every_policy() {
            world.serve(&of_sctp(&[backend], local));
            for to in [node_port(false), at(VIP, 80, false), node_port(true), at(VIP, 80, true)] {
                let client = at(OUTSIDE, ports.next().unwrap(), to.is_ipv6());
                associates(&world, backend, local, to, client);
            }
        }
    }
}

/// Nobody anywhere: an ABORT that the client takes for its own association's. Nobody on this node under Local: silence.
#[test]
fn a_client_outside_is_aborted_where_nobody_is_and_dropped_where_nobody_is_local() {
    for mut world in worlds() {
        for (backends, local) in [(&[][..], false), (&[][..], true), (&[Backend::There][..], true)] {
            world.serve(&of_sctp(backends, local));
            for to in [node_port(false), at(VIP, 80, false), node_port(true), at(VIP, 80, true)] {
                let dropped = || world.network.node("n1").unwrap().count(Verdict::DropNoLocalEndpoint).unwrap();
                let (outside, before) = (End::open(&world.network.outside, "eth0", to.is_ipv6()), dropped());
                let client = at(OUTSIDE, CLIENT, to.is_ipv6());
                outside.send(&Packet::sctp(client, to, INIT));
                if backends.is_empty() {
                    let refusal = outside.gets(client, ABORT).unwrap_or_else(|| panic!("{to}: no ABORT"));
                    assert_eq!(refusal.source, to);
                    let SeenBody::Sctp { tag, .. } = refusal.body else { panic!("{refusal:?}") };
                    assert_eq!(tag, Packet::INITIATE_TAG, "{to}");
                } else {
                    let answer = outside.wire.find(Duration::from_millis(50), |seen| seen.source == to).unwrap();
                    assert!(answer.is_none(), "{answer:?}");
                    assert_eq!(dropped(), before + 1, "{to}");
                }
            }
        }
    }
}
