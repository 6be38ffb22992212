//! What a load balancer learns that asks a node about one Service: whether it has ready endpoints of its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use millrace_tests::{
    address::twin,
    agent::Agent,
    manifests::{Endpoint, LoadBalancer, Manifests, Port, Service},
    network::{Network, NodeSpec},
    node::Node,
};

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 2, 10);
const PORT: u16 = 31_234;
const PATIENCE: Duration = Duration::from_secs(20);

/// A Service whose endpoints are on these nodes.
fn apply(manifests: &Manifests, nodes: &[&str], terminating: bool, port: Option<u16>) {
    let endpoint = |(at, node): (usize, &&str)| {
        let v4 = Ipv4Addr::new(192, 168, 1, 11 + at as u8);
        [v4.into(), twin(v4).into()].map(|address| Endpoint { address, node: (*node).to_owned(), terminating })
    };
    let service = Service {
        name: "asked".into(),
        cluster_ips: vec![CLUSTER_IP.into(), twin(CLUSTER_IP).into()],
        ports: vec![Port { name: "tcp".into(), protocol: "TCP".into(), port: 80, target: 8080, node_port: 30_080 }],
        endpoints: nodes.iter().enumerate().flat_map(endpoint).collect(),
        external_local: true,
        load_balancer: Some(LoadBalancer { vips: vec![Ipv4Addr::new(198, 51, 100, 5).into()], ..Default::default() }),
        ..Service::default()
    };
    let mut objects = service.objects();
    if let Some(port) = port {
        objects[0]["spec"]["healthCheckNodePort"] = port.into();
    }
    manifests.apply("service.yaml", &objects).unwrap();
}

fn ask(to: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /any/path HTTP/1.1\r\nHost: n1\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Asks over both families until the answer begins and ends so.
fn wait_for(node: &Node, status: &str, local_endpoints: usize) {
    let weight = format!("x-load-balancing-endpoint-weight: {local_endpoints}\r\n");
    for to in [SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)), (Ipv6Addr::LOCALHOST, PORT).into()] {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = node.netns.run(|| ask(to)).unwrap();
            match &answer {
                Ok(text) if text.starts_with(&format!("HTTP/1.1 {status}")) && text.contains(&weight) => break,
                _ => assert!(Instant::now() < deadline, "{to} should answer {status}, {weight}: {answer:?}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_load_balancer_is_told_of_local_ready_endpoints_as_they_come_and_go() {
    let network = Network::create(&[NodeSpec { name: "n1", zone: "a", number: 1 }]).unwrap();
    let n1 = network.node("n1").unwrap();
    let manifests = Manifests::create().unwrap();
    apply(&manifests, &["n1", "n1", "n2"], false, Some(PORT));
    let _agent = Agent::start(n1, &manifests, &[]).unwrap();
    wait_for(n1, "200", 2);
    apply(&manifests, &["n2"], false, Some(PORT));
    wait_for(n1, "503", 0);
    apply(&manifests, &["n1"], false, Some(PORT));
    wait_for(n1, "200", 1);
    // It still serves, but no load balancer should send it anything new.
    apply(&manifests, &["n1"], true, Some(PORT));
    wait_for(n1, "503", 0);

    apply(&manifests, &["n1"], false, None);
    let deadline = Instant::now() + PATIENCE;
    while n1.netns.run(|| ask((Ipv4Addr::LOCALHOST, PORT).into())).unwrap().is_ok() {
        assert!(Instant::now() < deadline, "the Service has no such port any more, and it is still answered");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_port_that_another_process_holds_is_answered_as_soon_as_it_is_free() {
    let network = Network::create(&[NodeSpec { name: "n1", zone: "a", number: 1 }]).unwrap();
    let n1 = network.node("n1").unwrap();
    let held = n1.netns.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).unwrap()).unwrap();
    let manifests = Manifests::create().unwrap();
    apply(&manifests, &["n1"], false, Some(PORT));
    let agent = Agent::start(n1, &manifests, &[]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !agent.log_tail().contains("health checks are not answered") {
        assert!(Instant::now() < deadline, "nothing is said of the port: {}", agent.log_tail());
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(held);
    wait_for(n1, "200", 1);
}
