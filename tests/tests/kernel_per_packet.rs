//! Pods that are translated per packet on a node whose socket hooks serve the others: as the annotation and the namespace's
//! label say, from the next connection on, whether the agent runs or not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    thread,
    time::{Duration, Instant},
};

use aya::maps::{HashMap, Map, MapData};
use millrace_agent::datapath::Pins;
use millrace_common::verdict::Verdict;
use millrace_tests::{
    address::twin,
    agent::Agent,
    client::{self, Running, Stream},
    manifests::{Endpoint, Manifests, Port, Service, namespace, pod},
    network::Network,
    node::Node,
    place::Place,
    pod::{Pod, uid},
    probe::{Manner, Outcome, Protocol},
};

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 3, 10);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 13);
const LATE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 14);
const CONNECTIONS: u64 = 8;
/// Generous: emulated machines run this too.
const PATIENCE: Duration = Duration::from_secs(60);

const MANNER: Manner = Manner { protocol: Protocol::Tcp, timeout: 5000, every: 0 };

/// A node with a server and two clients; its agent is told of no pods yet.
struct World {
    agent: Option<Agent>,
    arguments: &'static [&'static str],
    _serving: Running,
    manifests: Manifests,
    network: Network,
}

/// Who has served connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    BySocketHooks,
    PerPacket,
    /// Neither has served all: calls translated, calls left alone, flows begun.
    Otherwise([u64; 3]),
}

impl World {
    fn create() -> Self {
        Self::with(&[])
    }

    /// With these arguments of the agent's.
    fn with(arguments: &'static [&'static str]) -> Self {
        let pods = [("server", SERVER), ("client", CLIENT), ("neighbour", NEIGHBOUR)];
        let network = Network::of_one_node(&pods).unwrap();
        let n1 = network.node("n1").unwrap();
        let serving = client::serve(&n1.pod("server").unwrap().place(), "server", 8080).unwrap();
        let endpoint = |address| Endpoint { address, node: "n1".into(), terminating: false };
        let port = |protocol: &str| Port {
            name: protocol.to_lowercase(),
            protocol: protocol.into(),
            port: 80,
            target: 8080,
            node_port: 0,
        };
        let service = Service {
            name: "meshed".into(),
            cluster_ips: vec![CLUSTER_IP.into(), twin(CLUSTER_IP).into()],
            ports: ["TCP", "UDP"].map(port).into(),
            endpoints: [IpAddr::from(SERVER), twin(SERVER).into()].map(endpoint).into(),
            ..Service::default()
        };
        let manifests = Manifests::create().unwrap();
        manifests.apply("service.yaml", &service.objects()).unwrap();
        let mut world = Self { agent: None, arguments, _serving: serving, manifests, network };
        world.start();
        world
    }

    fn start(&mut self) {
        self.agent = Some(Agent::start(self.n1(), &self.manifests, self.arguments).unwrap());
    }

    /// Waits until the agent has read all manifests.
    fn settle(&mut self) {
        self.agent.as_mut().unwrap().settle(&self.manifests).unwrap();
    }

    fn log(&self) -> String {
        self.agent.as_ref().map(Agent::log_tail).unwrap_or_default()
    }

    fn n1(&self) -> &Node {
        self.network.node("n1").unwrap()
    }

    fn pod(&self, name: &str) -> &Pod {
        self.n1().pod(name).unwrap()
    }

    /// The manifest of a pod in the namespace `shop`, with this annotation.
    fn annotate(&self, name: &str, address: Ipv4Addr, socket_lb: Option<&str>) {
        let object = pod("n1", "shop", name, &uid(address), socket_lb);
        self.manifests.apply(&format!("pod-{name}.yaml"), &[object]).unwrap();
    }

    /// Waits until exactly these pods are left to the packet path.
    fn until_left(&self, pods: &[&str]) {
        let wanted: BTreeSet<u64> = pods.iter().map(|name| cgroup(self.pod(name))).collect();
        let held = || map::<u64, u32>(self.n1(), "PACKET_CGROUPS").keys().map(Result::unwrap).collect::<BTreeSet<_>>();
        let deadline = Instant::now() + PATIENCE;
        while held() != wanted {
            assert!(Instant::now() < deadline, "{:?} are held, not {wanted:?}\n{}", held(), self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn count<const N: usize>(&self, counted: [Verdict; N]) -> [u64; N] {
        counted.map(|verdict| self.n1().count(verdict).unwrap())
    }

    /// As [`World::served_at`], where the pod's processes are.
    fn served(&self, client: &str) -> Served {
        self.served_at(&self.pod(client).place(), Protocol::Tcp)
    }

    /// Connects over both families: each connection is answered and shows the service as its peer.
    fn served_at(&self, client: &Place, protocol: Protocol) -> Served {
        let counted = [Verdict::SocketTranslated, Verdict::SocketPodExcluded, Verdict::PacketNewFlow];
        let before = self.count(counted);
        for ip in [IpAddr::from(CLUSTER_IP), twin(CLUSTER_IP).into()] {
            let to = SocketAddr::new(ip, 80);
            let count = usize::try_from(CONNECTIONS / 2).unwrap();
            for attempt in client::connect(client, &[to], count, &Manner { protocol, ..MANNER }).unwrap() {
                assert!(matches!(attempt.outcome, Outcome::Answered { peer, .. } if peer == to), "{attempt:?}");
            }
        }
        let after = self.count(counted);
        match std::array::from_fn(|at| after[at] - before[at]) {
            [CONNECTIONS, 0, 0] => Served::BySocketHooks,
            [0, CONNECTIONS, CONNECTIONS] => Served::PerPacket,
            other => Served::Otherwise(other),
        }
    }
}

/// As the kernel numbers it.
fn cgroup(pod: &Pod) -> u64 {
    fs::metadata(&pod.cgroup.path).unwrap().ino()
}

fn map<K: aya::Pod, V: aya::Pod>(node: &Node, name: &str) -> HashMap<MapData, K, V> {
    let data = MapData::from_pin(Pins::at(&node.bpffs.path).map(name)).unwrap();
    Map::from_map_data(data).unwrap().try_into().unwrap()
}

#[test]
fn the_annotation_and_the_label_take_effect_on_the_next_connection_and_only_on_their_pods() {
    let mut world = World::create();
    for (step, annotation, label, left) in [
        ("nothing is said", None, None, false),
        ("the pod says off", Some("off"), None, true),
        ("no more", None, None, false),
        ("its namespace says off", None, Some("off"), true),
        ("the pod says otherwise", Some("on"), Some("off"), false),
        ("what makes no sense is as if it were not there", Some("never"), Some("off"), true),
        ("its namespace says on, the pod off", Some("off"), Some("on"), true),
        ("its namespace says something else", None, Some("perhaps"), false),
    ] {
        world.manifests.apply("namespace.yaml", &[namespace("shop", label)]).unwrap();
        world.annotate("client", CLIENT, annotation);
        // The neighbour says for itself that it is to be served like any other.
        world.annotate("neighbour", NEIGHBOUR, Some("on"));
        world.settle();
        world.until_left(if left { &["client"] } else { &[] });
        let expected = if left { Served::PerPacket } else { Served::BySocketHooks };
        assert_eq!(world.served("client"), expected, "{step}");
        assert_eq!(world.served("neighbour"), Served::BySocketHooks, "{step}: the neighbour");
    }
    let log = world.log();
    assert!(log.contains("Pod shop/client") && log.contains("`never`") && log.contains("write on or off"), "{log}");
    assert!(log.contains("Namespace shop") && log.contains("`perhaps`"), "{log}");
}

#[test]
fn every_container_of_a_chosen_pod_is_left_alone_and_what_runs_in_cgroups_of_their_own() {
    let world = World::create();
    world.annotate("client", CLIENT, Some("off"));
    world.until_left(&["client"]);
    let pod = world.pod("client");
    let sidecar = pod.cgroup.child("sidecar").unwrap();
    let session = sidecar.child("session").unwrap();
    let unit = session.child("unit").unwrap();
    for cgroup in [&sidecar, &session, &unit, &pod.cgroup] {
        let place = Place { cgroup: cgroup.path.clone(), ..pod.place() };
        assert_eq!(world.served_at(&place, Protocol::Tcp), Served::PerPacket, "{}", cgroup.path.display());
    }
}

#[test]
fn datagrams_of_a_chosen_pod_are_left_alone_where_the_socket_hooks_serve_those_of_others() {
    for arguments in [&["--socket-lb-udp", "on"][..], &["--socket-lb-udp", "on", "--socket-lb", "host-only"]] {
        let world = World::with(arguments);
        world.annotate("client", CLIENT, Some("off"));
        world.until_left(&["client"]);
        let served = ["client", "neighbour"].map(|pod| world.served_at(&world.pod(pod).place(), Protocol::Udp));
        assert_eq!(served, [Served::PerPacket, Served::BySocketHooks], "{arguments:?}");
    }
}

#[test]
fn a_chosen_pods_connection_names_the_service_by_itself_and_goes_on_when_the_choice_is_taken_back() {
    let world = World::create();
    world.annotate("client", CLIENT, Some("off"));
    world.until_left(&["client"]);
    let remembered = || map::<u64, [u8; 36]>(world.n1(), "SOCKETS").keys().count();
    let slow = Manner { every: 10, ..MANNER };
    let talk = || Stream::start(&world.pod("client").place(), (CLUSTER_IP, 80).into(), &slow).unwrap();
    let talks = |stream: &mut Stream| stream.wait_for(PATIENCE, |outcome| outcome.server() == Some("server")).unwrap();
    let mut per_packet = talk();
    talks(&mut per_packet);
    assert_eq!(remembered(), 0, "nothing had to be remembered to show the service as the peer");
    world.annotate("client", CLIENT, None);
    world.until_left(&[]);
    let mut by_socket = talk();
    talks(&mut by_socket);
    assert_eq!(remembered(), 1, "the next connection is the socket hooks' again");
    world.annotate("client", CLIENT, Some("off"));
    world.until_left(&["client"]);
    // Each goes on as it began: the service as the peer, one server, no interruption.
    for (stream, how) in [(per_packet, "per packet"), (by_socket, "by the hooks")] {
        let peer = SocketAddr::from((CLUSTER_IP, 80));
        for line in stream.stop().unwrap() {
            assert!(matches!(line.outcome, Outcome::Answered { peer: seen, .. } if seen == peer), "{how}: {line:?}");
        }
    }
}

#[test]
fn a_pod_is_chosen_before_it_is_there_and_forgotten_when_it_is_gone() {
    let mut world = World::create();
    world.annotate("late", LATE, Some("off"));
    world.settle();
    world.until_left(&[]);
    world.network.node_mut("n1").unwrap().add_pod("late", LATE).unwrap();
    world.until_left(&["late"]);
    world.settle();
    assert_eq!(world.served("late"), Served::PerPacket);
    world.network.node_mut("n1").unwrap().remove_pod("late");
    world.until_left(&[]);
    // Its object goes a while later; a pod of the same name that comes instead is chosen anew.
    world.manifests.remove("pod-late.yaml").unwrap();
    world.network.node_mut("n1").unwrap().add_pod("late", LATE).unwrap();
    world.settle();
    world.until_left(&[]);
    assert_eq!(world.served("late"), Served::BySocketHooks);
    world.annotate("late", LATE, Some("off"));
    world.until_left(&["late"]);
    assert_eq!(world.served("late"), Served::PerPacket);
}

#[test]
fn the_choice_outlives_the_agent_and_the_next_one_takes_back_what_is_no_longer_so() {
    let mut world = World::create();
    world.annotate("client", CLIENT, Some("off"));
    world.until_left(&["client"]);
    world.agent.take().unwrap().kill().unwrap();
    assert_eq!(world.served("client"), Served::PerPacket, "no agent runs");
    world.start();
    world.until_left(&["client"]);
    assert_eq!(world.served("client"), Served::PerPacket, "the next agent goes on");
    world.agent.take().unwrap().kill().unwrap();
    world.annotate("client", CLIENT, None);
    world.annotate("neighbour", NEIGHBOUR, Some("off"));
    world.start();
    world.until_left(&["neighbour"]);
    let served = ["client", "neighbour"].map(|pod| world.served(pod));
    assert_eq!(served, [Served::BySocketHooks, Served::PerPacket], "the next agent finds what has changed");
}
