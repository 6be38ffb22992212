//! SCTP between the kernel's own sockets, through a Service. The kernel leaves the checksum to the veth devices, which
//! leave it out: that the programs' arithmetic is right where a checksum is there is shown by `kernel_packets`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    thread,
    time::Duration,
};

use millrace_tests::{
    address::twin,
    agent::Agent,
    manifests::{Endpoint, Manifests, Port, Service},
    netns::Netns,
    network::{Network, OUTSIDE},
};
use nix::sys::socket::{Backlog, SockaddrStorage, bind, connect, listen, setsockopt, sockopt};

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 4, 10);
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 96, 4, 11);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);

/// A one-to-one socket, which `std` can read and write as a TCP one; `None`: this kernel has no SCTP. Bound to one
/// address, it tells its peer of no other (multi-homing).
fn sctp(own: SocketAddr) -> Option<OwnedFd> {
    let family = if own.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: a system call without pointers.
    let socket = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, libc::IPPROTO_SCTP) };
    if socket < 0 {
        let error = io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::EPROTONOSUPPORT), "{error}");
        return None;
    }
    // SAFETY: a descriptor that was just opened, and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // Bounds connect too, as with TCP: a test that fails ends.
    setsockopt(&socket, sockopt::SendTimeout, &nix::sys::time::TimeVal::new(30, 0)).unwrap();
    bind(socket.as_raw_fd(), &SockaddrStorage::from(own)).unwrap();
    Some(socket)
}

/// True, loudly, where the kernel has no SCTP.
fn skipped_without_sctp(test: &str) -> bool {
    let skipped = sctp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)).is_none();
    if skipped {
        assert!(std::env::var_os("MILLRACE_MACHINE").is_none(), "Debian's kernel has SCTP, and its module is loaded");
        eprintln!("SKIPPED {test}: this kernel has no SCTP");
    }
    skipped
}

/// Sends back what it gets, and the client's address as it sees it, until the client has shut down.
fn serve(netns: &Netns, own: SocketAddr) {
    let socket = netns.run(|| sctp(own)).unwrap().unwrap();
    listen(&socket, Backlog::new(8).unwrap()).unwrap();
    let listener = TcpListener::from(socket);
    thread::spawn(move || {
        while let Ok((mut association, client)) = listener.accept() {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = association.read(&mut buffer) {
                let said = format!("{} {}", client.ip(), String::from_utf8_lossy(&buffer[..length]));
                drop(association.write_all(said.as_bytes()));
            }
        }
    });
}

/// What the server says.
fn ask(netns: &Netns, own: IpAddr, to: SocketAddr) -> io::Result<String> {
    let asked = netns.run(|| -> io::Result<String> {
        let socket = sctp(SocketAddr::new(own, 0)).unwrap();
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
        let mut association = TcpStream::from(socket);
        association.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut said = String::new();
        for word in ["one", "two"] {
            association.write_all(word.as_bytes())?;
            let mut buffer = [0; 4096];
            let length = association.read(&mut buffer)?;
            said = format!("{said}{};", String::from_utf8_lossy(&buffer[..length]));
        }
        Ok(said)
    });
    asked.unwrap()
}

fn service(name: &str, ip: Ipv4Addr, node_port: u16, endpoints: &[Ipv4Addr]) -> Service {
    let endpoint = |address| Endpoint { address, node: "n1".into(), terminating: false };
    Service {
        name: name.into(),
        cluster_ips: vec![ip.into(), twin(ip).into()],
        ports: vec![Port { name: "sctp".into(), protocol: "SCTP".into(), port: 80, target: 9000, node_port }],
        endpoints: endpoints.iter().flat_map(|ip| [IpAddr::from(*ip), twin(*ip).into()]).map(endpoint).collect(),
        ..Service::default()
    }
}

/// A pod, a process of the node and a client outside each hold an association with a pod through a Service whose port
/// is not the pod's; one with a Service that has no endpoint is refused at once.
#[test]
fn associations_reach_a_pod_and_are_refused_where_there_is_none() {
    if skipped_without_sctp("associations_reach_a_pod_and_are_refused_where_there_is_none") {
        return;
    }
    let network = Network::of_one_node(&[("server", SERVER), ("client", CLIENT)]).unwrap();
    let n1 = network.node("n1").unwrap();
    let manifests = Manifests::create().unwrap();
    manifests.apply("served.yaml", &service("served", CLUSTER_IP, 30_090, &[SERVER]).objects()).unwrap();
    manifests.apply("nobody.yaml", &service("nobody", NOBODY, 0, &[]).objects()).unwrap();
    let agent = Agent::start(n1, &manifests, &[]).unwrap();
    let (server, client) = (n1.pod("server").unwrap(), n1.pod("client").unwrap());
    for v6 in [false, true] {
        let ip = |v4: Ipv4Addr| if v6 { twin(v4).into() } else { IpAddr::from(v4) };
        serve(&server.netns, SocketAddr::new(ip(SERVER), 9000));
        let (cluster_ip, node_port) = (SocketAddr::new(ip(CLUSTER_IP), 80), SocketAddr::new(ip(NODE), 30_090));
        for (who, netns, own, to, seen) in [
            ("pod", &client.netns, CLIENT, cluster_ip, CLIENT),
            ("node", &n1.netns, NODE, cluster_ip, NODE),
            ("outside", &network.outside, OUTSIDE, node_port, NODE),
        ] {
            let said = ask(netns, ip(own), to);
            let expected = format!("{0} one;{0} two;", ip(seen));
            assert_eq!(said.as_ref().ok(), Some(&expected), "{who}, {to}: {said:?}\n{:?}", agent.ask(&["stats"]));
        }
        let refused = ask(&client.netns, ip(CLIENT), SocketAddr::new(ip(NOBODY), 80)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{refused}");
    }
}
