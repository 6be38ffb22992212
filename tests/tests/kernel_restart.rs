//! The agent ends, is killed and comes back while connections are made without pause and endpoints change: no
//! connection fails, and none reaches a server of another Service.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    collections::BTreeSet,
    env,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use millrace_tests::{
    address::twin,
    agent::Agent,
    client::{self, Load, Running, Stream},
    manifests::{Endpoint, Manifests, Port, Service},
    network::{Network, NodeSpec},
    probe::{Manner, Protocol},
};

const SHOP: Ipv4Addr = Ipv4Addr::new(10, 96, 1, 10);
const BANK: Ipv4Addr = Ipv4Addr::new(10, 96, 1, 11);
/// Servers of the two Services, and the node (n1 or n2) that each is on.
const PODS: [(&str, u8, Ipv4Addr); 5] = [
    ("shop-1", 1, Ipv4Addr::new(192, 168, 1, 21)),
    ("shop-2", 2, Ipv4Addr::new(192, 168, 2, 22)),
    ("shop-3", 2, Ipv4Addr::new(192, 168, 2, 23)),
    ("bank-1", 1, Ipv4Addr::new(192, 168, 1, 31)),
    ("bank-2", 2, Ipv4Addr::new(192, 168, 2, 32)),
];
/// After this long, a kill and a SIGTERM are enough.
const ENOUGH: Duration = Duration::from_secs(30);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 99);

struct World {
    agent: Option<Agent>,
    _servers: Vec<Running>,
    manifests: Manifests,
    network: Network,
    socket_lb: &'static str,
}

impl World {
    fn create(socket_lb: &'static str) -> Self {
        let specs = [NodeSpec { name: "n1", zone: "a", number: 1 }, NodeSpec { name: "n2", zone: "b", number: 2 }];
        let mut network = Network::create(&specs).unwrap();
        let mut servers = Vec::new();
        for (name, node, address) in PODS {
            let pod = network.node_mut(&format!("n{node}")).unwrap().add_pod(name, address).unwrap();
            servers.push(client::serve(&pod.place(), name, 8080).unwrap());
        }
        network.node_mut("n1").unwrap().add_pod("client", CLIENT).unwrap();
        let manifests = Manifests::create().unwrap();
        let mut world = Self { agent: None, _servers: servers, manifests, network, socket_lb };
        world.endpoints("shop", SHOP, &["shop-1", "shop-2"]);
        world.endpoints("bank", BANK, &["bank-1", "bank-2"]);
        world.start();
        world
    }

    /// Starts the agent; what the manifests say is in force when this returns.
    fn start(&mut self) {
        let n1 = self.network.node("n1").unwrap();
        self.agent = Some(Agent::start(n1, &self.manifests, &["--socket-lb", self.socket_lb]).unwrap());
    }

    fn settle(&mut self) {
        self.agent.as_mut().unwrap().settle(&self.manifests).unwrap();
    }

    /// What the Service's controller would write for these servers.
    fn endpoints(&self, service: &str, cluster_ip: Ipv4Addr, servers: &[&str]) {
        let ready = PODS.into_iter().filter(|(name, ..)| servers.contains(name));
        let endpoints = ready.flat_map(|(_, node, address)| {
            [IpAddr::from(address), twin(address).into()].map(|address| Endpoint {
                address,
                node: format!("n{node}"),
                terminating: false,
            })
        });
        let port = |protocol: &str| Port {
            name: protocol.to_lowercase(),
            protocol: protocol.to_owned(),
            port: 80,
            target: 8080,
            node_port: 0,
        };
        let service = Service {
            name: service.to_owned(),
            cluster_ips: vec![cluster_ip.into(), twin(cluster_ip).into()],
            ports: vec![port("TCP"), port("UDP")],
            endpoints: endpoints.collect(),
            ..Service::default()
        };
        self.manifests.apply(&format!("{}.yaml", service.name), &service.objects()).unwrap();
    }

    /// Changes that ask nothing of the servers themselves: a server that is taken out goes on answering.
    fn churn(&self) {
        for servers in [["shop-1", "shop-3"], ["shop-2", "shop-3"], ["shop-1", "shop-2"]] {
            self.endpoints("shop", SHOP, &servers);
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn addresses(v4: Ipv4Addr) -> [SocketAddr; 2] {
    [IpAddr::from(v4), twin(v4).into()].map(|ip| SocketAddr::new(ip, 80))
}

/// Every connection of `load` was answered, and by a server of the Service that it was made to.
fn nothing_lost(load: Load, what: &str) {
    let report = load.stop().unwrap();
    println!("{what}: {} connections, {} failed", report.total(), report.failed);
    assert_eq!(report.failed, 0, "{what}: {:#?}", report.failures);
    assert!(report.total() > 200, "{what}: too few connections to mean anything: {report:?}");
    for (to, servers) in report.answered {
        let prefix = if addresses(SHOP).contains(&to) { "shop-" } else { "bank-" };
        assert!(servers.keys().all(|server| server.starts_with(prefix)), "{what}: {to} was answered by {servers:?}");
    }
}

fn restarts(socket_lb: &'static str) {
    let mut world = World::create(socket_lb);
    let place = world.network.node("n1").unwrap().pod("client").unwrap().place();
    let targets = [addresses(SHOP), addresses(BANK)].concat();
    // Every second millisecond; an emulated machine would do nothing else, and the agent would never start.
    let every = if env::var_os("MILLRACE_MACHINE").is_some() { 100 } else { 2 };
    let manner = |protocol| Manner { every, ..Manner::of(protocol) };
    let tcp = Load::start(&place, &targets, 2, &manner(Protocol::Tcp)).unwrap();
    let udp = Load::start(&place, &targets, 1, &manner(Protocol::Udp)).unwrap();
    let datagrams = Load::start(&place, &targets, 1, &manner(Protocol::UdpUnconnected)).unwrap();
    let mut long = Stream::start(&place, targets[0], &Manner { every: 10, ..Manner::of(Protocol::Tcp) }).unwrap();
    long.wait_for(Duration::from_secs(20), |outcome| outcome.server().is_some()).unwrap();

    let start = Instant::now();
    for round in 0..4 {
        // An emulated machine needs a minute for the first two, one of each kind.
        if round >= 2 && start.elapsed() > ENOUGH {
            break;
        }
        world.churn();
        // Mid-change, so that the maps may be half written.
        let agent = world.agent.take().unwrap();
        if round % 2 == 0 {
            agent.kill().unwrap();
        } else {
            agent.terminate().unwrap();
        }
        thread::sleep(Duration::from_millis(100));
        // What changes meanwhile is for the next agent to find.
        world.churn();
        world.start();
        thread::sleep(Duration::from_millis(100));
    }
    world.endpoints("shop", SHOP, &["shop-3"]);
    world.settle();

    nothing_lost(tcp, "TCP");
    nothing_lost(udp, "UDP");
    nothing_lost(datagrams, "UDP, unconnected");
    let lines = long.stop().unwrap();
    let servers: BTreeSet<_> = lines.iter().map(|line| line.outcome.server()).collect();
    assert!(servers.len() == 1 && !servers.contains(&None), "the long connection did not survive: {lines:?}");
    let after = client::connect(&place, &addresses(SHOP), 10, &Manner::of(Protocol::Tcp)).unwrap();
    assert!(after.iter().all(|attempt| attempt.outcome.server() == Some("shop-3")), "{after:?}");
}

#[test]
fn restarts_and_kills_under_load_break_nothing_over_the_socket_path() {
    restarts("on");
}

#[test]
fn restarts_and_kills_under_load_break_nothing_over_the_per_packet_path() {
    restarts("host-only");
}
