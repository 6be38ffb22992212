//! Packets that the stack has something to say about.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

use millrace_tests::{address::twin, packet::SeenBody, probe::Protocol, wire::Wire};

use super::{
    PATIENCE,
    scene::{OTHER, SERVER, Scene, both},
};

/// The stack tells the sender, as it does everywhere else.
#[test]
fn a_packet_without_hops_left_is_answered_by_the_node() {
    let scene = Scene::new(&[]);
    scene.wait_until_routed();
    let client = scene.pod("client");
    let wire = Wire::open(&client.netns, "eth0").unwrap();
    let [to, _] = both(SERVER);
    client
        .netns
        .run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_ttl(1).unwrap();
            socket.send_to(b"far", to).unwrap();
        })
        .unwrap();
    let told = wire.find(PATIENCE, |seen| matches!(seen.body, SeenBody::IcmpError { .. })).unwrap();
    assert!(told.is_some_and(|told| told.source.ip() != to.ip()), "the node, and not the server, answers");
}

/// A datagram that does not fit the way is answered with the size that does; segments of a connection find it out.
#[test]
fn what_does_not_fit_is_answered_with_what_does() {
    let scene = Scene::new(&[]);
    scene.wait_until_routed();
    let device = &scene.pod("server").device;
    scene.node().netns.ip(&[format!("link set {device} mtu 1300")]).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    for to in both(SERVER) {
        assert_eq!(too_large(&scene, to), Some(libc::EMSGSIZE), "{to}");
        assert_eq!(copied(&scene, to), 1 << 20, "{to}");
    }
}

/// The kernel does not tell a program what a route says of sizes.
#[test]
fn a_pod_whose_route_has_an_mtu_is_reached_by_the_stack() {
    let scene = Scene::new(&[]);
    scene.wait_until_routed();
    let device = &scene.pod("other").device;
    let routes = [
        format!("route replace {OTHER}/32 dev {device} scope link mtu 1300"),
        format!("route replace {}/128 dev {device} mtu 1300", twin(OTHER)),
    ];
    scene.node().netns.ip(&routes).unwrap();
    for to in both(OTHER) {
        scene.wait_until("the pod behind a narrow route is left to the stack", || !scene.goes_past(to));
        assert_eq!(too_large(&scene, to), Some(libc::EMSGSIZE), "{to}");
    }
}

/// What a connected socket is told of a datagram of 1,400 bytes that must not be fragmented.
fn too_large(scene: &Scene, to: SocketAddr) -> Option<i32> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let tried = scene.pod("client").netns.run(|| {
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(to).unwrap();
        let (level, option) = if to.is_ipv4() {
            (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
        };
        let always = libc::IP_PMTUDISC_DO;
        // SAFETY: an option of four bytes, alive during the call.
        let set = unsafe {
            libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const always).cast(), size_of_val(&always) as u32)
        };
        assert_eq!(set, 0);
        for _ in 0..50 {
            if let Err(error) = socket.send(&[0; 1400]) {
                return error.raw_os_error();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    });
    tried.unwrap()
}

/// Bytes of a mebibyte that arrive, in segments put together by the sender's kernel.
fn copied(scene: &Scene, to: SocketAddr) -> usize {
    let to = SocketAddr::new(to.ip(), 9090);
    let listener = scene.pod("server").netns.run(|| TcpListener::bind(to).unwrap()).unwrap();
    let reading = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut bytes = Vec::new();
        // What has arrived by the timeout counts.
        let _ = stream.read_to_end(&mut bytes);
        bytes.len()
    });
    let mut stream = scene.pod("client").netns.run(|| TcpStream::connect_timeout(&to, PATIENCE).unwrap()).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&vec![7; 1 << 20]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    reading.join().unwrap()
}

/// Where the node looks at sources (`rp_filter`), it still does: a pod that calls itself another is not heard.
#[test]
fn a_forged_source_is_left_to_the_node_which_drops_it() {
    let scene = Scene::new(&[]);
    scene.wait_until_routed();
    let client = scene.pod("client");
    scene.node().netns.sysctl(&[("ipv4/conf/all/rp_filter", "1")]).unwrap();
    client.netns.ip(&[format!("address add {OTHER}/32 dev eth0")]).unwrap();
    let wire = Wire::open(&scene.pod("server").netns, "eth0").unwrap();
    let [to, _] = both(SERVER);
    let before = scene.routed();
    client
        .netns
        .run(|| {
            let socket = UdpSocket::bind((OTHER, 4_444)).unwrap();
            for _ in 0..10 {
                socket.send_to(b"it is me", to).unwrap();
            }
        })
        .unwrap();
    assert_eq!(scene.routed(), before);
    let heard = wire.find(Duration::from_secs(1), |seen| seen.source.ip() == OTHER).unwrap();
    assert!(heard.is_none(), "{heard:?}");
    assert_eq!(scene.ask(to, Protocol::Udp).as_deref(), Some("server"), "its own address is heard");
}
