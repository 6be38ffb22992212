//! ServiceCIDR objects, as packets meet them: within a range an address that no Service has is silent, whoever asks; beyond it
//! packets go their way. Services and connections notice nothing of ranges that come and go.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
};

use millrace_common::verdict::Verdict;
use millrace_tests::{
    address::{both, in_family, twin},
    agent::Agent,
    client::{self, Running},
    crowd::{Crowd, Held, manner},
    listen::listen,
    manifests::{Endpoint, Manifests, Port, Service},
    network::{Network, NodeSpec},
    place::{self, Place},
    probe::{Manner, Outcome, Protocol},
};
use serde_json::{Value, json};

/// Not within what the harness names on the command line. The router knows the way to it: by n1, to n2.
const SERVICE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 10);
/// An address that no Service has, and that somebody answers at who is no matter of this node.
const BEYOND: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 99);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const N1: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const N2: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

const TARGET: u16 = 8080;

const WHOLE: [&str; 2] = ["172.30.0.0/24", "fd00:172:30::/64"];
/// Without [`BEYOND`].
const PART: [&str; 2] = ["172.30.0.0/26", "fd00:172:30::/121"];
/// With it, and without [`SERVICE`].
const OTHER_PART: [&str; 2] = ["172.30.0.64/26", "fd00:172:30::80/121"];

const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

fn range(name: &str, cidrs: [&str; 2]) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": name}, "spec": {"cidrs": cidrs},
    })
}

fn service() -> Service {
    let port = |protocol: &str| Port {
        name: protocol.to_lowercase(),
        protocol: protocol.into(),
        port: 80,
        target: TARGET,
        node_port: 0,
    };
    let endpoint = |address| Endpoint { address, node: "n1".into(), terminating: false };
    Service {
        name: "web".into(),
        cluster_ips: both(SERVICE, 0).map(|it| it.ip()).into(),
        ports: ["TCP", "UDP"].map(port).into(),
        endpoints: [IpAddr::from(SERVER), twin(SERVER).into()].map(endpoint).into(),
        ..Service::default()
    }
}

struct World {
    agent: Option<Agent>,
    arguments: &'static [&'static str],
    manifests: Manifests,
    _servers: [Running; 2],
    network: Network,
}

impl World {
    fn create(arguments: &'static [&'static str]) -> Self {
        let spec = |name, number| NodeSpec { name, zone: "a", number };
        let mut network = Network::create(&[spec("n1", 1), spec("n2", 2)]).unwrap();
        if arguments.contains(&"--xdp") {
            network.lay_cables().unwrap();
        }
        let n1 = network.node_mut("n1").unwrap();
        n1.add_pod("client", CLIENT).unwrap();
        let serving = client::serve(&n1.add_pod("server", SERVER).unwrap().place(), "server", TARGET).unwrap();
        for (v6, net) in [(false, WHOLE[0]), (true, WHOLE[1])] {
            let [beyond, n1, n2] = [BEYOND, N1, N2].map(|ip| in_family(ip, v6));
            let there = &network.node("n2").unwrap().netns;
            there.ip(&[format!("address add {beyond} dev lo{}", if v6 { " nodad" } else { "" })]).unwrap();
            if let IpAddr::V6(beyond) = beyond {
                there.wait_for_address(beyond).unwrap();
            }
            listen(there, "beyond", SocketAddr::new(beyond, 80)).unwrap();
            network.node("n1").unwrap().netns.ip(&[format!("route add {net} via {n2}")]).unwrap();
            network.router.ip(&[format!("route add {net} via {n1}")]).unwrap();
        }
        let beyond = client::serve(&network.node("n2").unwrap().place(), "beyond", TARGET).unwrap();
        let manifests = Manifests::create().unwrap();
        manifests.apply("service.yaml", &service().objects()).unwrap();
        let mut world = Self { agent: None, arguments, manifests, _servers: [serving, beyond], network };
        world.start();
        world
    }

    fn start(&mut self) {
        let n1 = self.network.node("n1").unwrap();
        self.agent = Some(Agent::start(n1, &self.manifests, self.arguments).unwrap());
    }

    /// What the manifests say is in force when this returns: ranges are written after the Services of their round.
    fn settle(&mut self) {
        for _ in 0..2 {
            self.agent.as_mut().unwrap().settle(&self.manifests).unwrap();
        }
    }

    /// A pod, the node, outside.
    fn places(&self) -> [Place; 3] {
        let n1 = self.network.node("n1").unwrap();
        let outside = Place { netns: self.network.outside.handle(), cgroup: place::root().unwrap() };
        [n1.pod("client").unwrap().place(), n1.place(), outside]
    }

    /// Asks for an address from everywhere, in both families, over TCP and UDP.
    fn outcomes(&self, to: [SocketAddr; 2], timeout: u64) -> Vec<Outcome> {
        let ask = |place: &Place| {
            let ask = |protocol| {
                let manner = Manner { timeout, ..Manner::of(protocol) };
                client::connect(place, &to, to.len(), &manner).unwrap().into_iter().map(|attempt| attempt.outcome)
            };
            PROTOCOLS.into_iter().flat_map(ask).collect::<Vec<_>>()
        };
        thread::scope(|scope| {
            let asking = self.places().map(|place| scope.spawn(move || ask(&place)));
            asking.into_iter().flat_map(|asking| asking.join().unwrap()).collect()
        })
    }

    fn dropped(&self) -> u64 {
        self.network.node("n1").unwrap().count(Verdict::DropNoSuchService).unwrap()
    }

    /// What goes to the address that no Service has is dropped here, or answered by who has it.
    fn assert_dropped(&self, dropped: bool, when: &str) {
        let before = self.dropped();
        let outcomes = self.outcomes(both(BEYOND, 80), if dropped { 250 } else { 5000 });
        let is_so = |outcome: &Outcome| match outcome.server() {
            Some(name) => !dropped && name == "beyond",
            None => dropped && *outcome == Outcome::Silence,
        };
        assert!(outcomes.iter().all(is_so), "{when}: {outcomes:?}");
        let counted = self.dropped() - before;
        let asked = u64::try_from(outcomes.len()).unwrap();
        assert!(if dropped { counted >= asked } else { counted == 0 }, "{when}: {counted} of {asked} were dropped");
        // A port that the Service does not have is refused, whether there is a range or not.
        let other_port = self.outcomes(both(SERVICE, 81), manner(Protocol::Tcp).timeout);
        assert!(other_port.iter().all(|outcome| *outcome == Outcome::Refused), "{when}: {other_port:?}");
    }
}

fn ranges_come_and_go(arguments: &'static [&'static str]) {
    let mut world = World::create(arguments);
    world.assert_dropped(false, "no range");
    let crowds = world.places().map(|place| Crowd::start(&place, &both(SERVICE, 80)).unwrap());
    // Connections that were there before there was a range.
    let to = [both(SERVICE, 80), both(BEYOND, TARGET)].concat();
    let hold = |place: &Place| to.iter().map(|to| Held::start(place, *to, Protocol::Tcp).unwrap()).collect::<Vec<_>>();
    let held: Vec<_> = world.places()[..].iter().flat_map(hold).collect();

    world.manifests.apply("whole.yaml", &[range("whole", WHOLE)]).unwrap();
    world.settle();
    world.assert_dropped(true, "a range");
    world.manifests.apply("part.yaml", &[range("part", PART), range("other", OTHER_PART)]).unwrap();
    world.settle();
    world.manifests.remove("whole.yaml").unwrap();
    world.settle();
    world.assert_dropped(true, "of ranges that overlapped some are left");
    world.manifests.apply("part.yaml", &[range("part", PART)]).unwrap();
    world.settle();
    world.assert_dropped(false, "not in the range that is left");

    world.manifests.apply("part.yaml", &[range("part", WHOLE)]).unwrap();
    world.settle();
    world.agent.take().unwrap().kill().unwrap();
    world.manifests.remove("part.yaml").unwrap();
    world.assert_dropped(true, "no agent runs");
    world.start();
    world.settle();
    world.assert_dropped(false, "the range went while no agent ran");
    for crowd in crowds {
        crowd.nothing_lost().unwrap();
    }
    held.into_iter().for_each(|held| held.unbroken().unwrap());
}

#[test]
fn an_address_that_no_service_has_is_silent_for_as_long_as_a_range_holds_it() {
    for arguments in [&[][..], &["--socket-lb", "host-only"]] {
        ranges_come_and_go(arguments);
    }
}

#[test]
fn ranges_count_under_xdp_as_well() {
    for arguments in [&["--xdp", "generic"][..], &["--xdp", "native"]] {
        ranges_come_and_go(arguments);
    }
}
