//! A client's port outlives its connections: what was translated for one must not be translated for the next.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use millrace_tests::{
    address::twin,
    agent::Agent,
    client,
    manifests::{Endpoint, Manifests, Port, Service},
    network::Network,
};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 2, 10);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const PORT: u16 = 45000;

/// Connects from PORT and waits for the server's greeting. The thread is in no node's cgroup, so that no socket hook
/// translates: every packet is the per-packet path's.
fn greeted(to: SocketAddr) -> io::Result<String> {
    let (family, any) = match to {
        SocketAddr::V4(_) => (AddressFamily::Inet, "0.0.0.0"),
        SocketAddr::V6(_) => (AddressFamily::Inet6, "::"),
    };
    let from = SocketAddr::new(any.parse().unwrap(), PORT);
    let socket: OwnedFd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    // Bounds connect too (tcp(7), SO_SNDTIMEO).
    setsockopt(&socket, sockopt::SendTimeout, &nix::sys::time::TimeVal::new(2, 0))?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(from))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    let connection = TcpStream::from(socket);
    connection.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut line = String::new();
    BufReader::new(&connection).read_line(&mut line)?;
    Ok(line)
}

#[test]
fn a_port_that_was_used_through_a_service_can_be_used_straight_to_its_backend() {
    let network = Network::of_one_node(&[("server", SERVER), ("client", CLIENT)]).unwrap();
    let n1 = network.node("n1").unwrap();
    let (server, client) = (n1.pod("server").unwrap(), n1.pod("client").unwrap());
    let _serving = client::serve(&server.place(), "server", 8080).unwrap();
    let endpoint = |address| Endpoint { address, node: "n1".into(), terminating: false };
    let service = Service {
        name: "reused".into(),
        cluster_ips: vec![CLUSTER_IP.into(), twin(CLUSTER_IP).into()],
        ports: vec![Port { name: "tcp".into(), protocol: "TCP".into(), port: 80, target: 8080, node_port: 0 }],
        endpoints: [IpAddr::from(SERVER), twin(SERVER).into()].map(endpoint).into(),
        ..Service::default()
    };
    let manifests = Manifests::create().unwrap();
    manifests.apply("service.yaml", &service.objects()).unwrap();
    let _agent = Agent::start(n1, &manifests, &[]).unwrap();
    for v6 in [false, true] {
        let ip = |v4: Ipv4Addr| if v6 { twin(v4).into() } else { IpAddr::from(v4) };
        let through = SocketAddr::new(ip(CLUSTER_IP), 80);
        let straight = SocketAddr::new(ip(SERVER), 8080);
        for to in [through, straight] {
            let line = client.netns.run(|| greeted(to)).unwrap();
            assert!(line.as_ref().is_ok_and(|line| line.contains("\"server\"")), "{to}: {line:?}");
            // Its last segments, and the server's, have passed.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
