//! A Service becomes another while clients in a pod and on the node connect without pause and hold connections: only what a
//! change means to break breaks. (Clients outside: `outside/load.rs`.)
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use millrace_common::verdict::Verdict;
use millrace_tests::{
    address::{both, twin},
    agent::Agent,
    client::{self, Running},
    crowd::{Crowd, Held, manner},
    manifests::{Endpoint, LoadBalancer, Manifests, Port, Service},
    network::{Network, NodeSpec},
    place::Place,
    probe::{Attempt, Manner, Outcome, Protocol},
};

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 17, 10);
const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 17);
const N1: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const NODE_PORT: u16 = 30_017;
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
/// Servers, and the node (n1 or n2) of each.
const SERVERS: [(&str, u8, Ipv4Addr); 2] =
    [("here", 1, Ipv4Addr::new(192, 168, 1, 11)), ("there", 2, Ipv4Addr::new(192, 168, 2, 21))];
/// Both listen on each of these.
const TARGETS: [u16; 2] = [8080, 8081];

/// A ClusterIP only. Of each port: its number, what it leads to, its node port.
fn service(ports: &[(u16, u16, u16)]) -> Service {
    let port = |&(port, target, node_port): &(u16, u16, u16)| {
        ["TCP", "UDP"].map(|protocol| Port {
            name: format!("{}-{port}", protocol.to_lowercase()),
            protocol: protocol.into(),
            port,
            target,
            node_port,
        })
    };
    let endpoint = |(_, node, v4): (&str, u8, Ipv4Addr)| {
        [IpAddr::from(v4), twin(v4).into()].map(|address| Endpoint {
            address,
            node: format!("n{node}"),
            terminating: false,
        })
    };
    Service {
        name: "web".into(),
        cluster_ips: both(CLUSTER_IP, 0).map(|it| it.ip()).into(),
        ports: ports.iter().flat_map(port).collect(),
        endpoints: SERVERS.into_iter().flat_map(endpoint).collect(),
        ..Service::default()
    }
}

struct World {
    agent: Agent,
    manifests: Manifests,
    _servers: Vec<Running>,
    network: Network,
}

impl World {
    fn create(arguments: &[&str]) -> Self {
        let specs = [NodeSpec { name: "n1", zone: "a", number: 1 }, NodeSpec { name: "n2", zone: "b", number: 2 }];
        let mut network = Network::create(&specs).unwrap();
        let mut servers = Vec::new();
        for (name, node, address) in SERVERS {
            let pod = network.node_mut(&format!("n{node}")).unwrap().add_pod(name, address).unwrap();
            servers.extend(TARGETS.map(|port| client::serve(&pod.place(), name, port).unwrap()));
        }
        let n1 = network.node_mut("n1").unwrap();
        n1.add_pod("client", CLIENT).unwrap();
        let manifests = Manifests::create().unwrap();
        let agent = Agent::start(n1, &manifests, arguments).unwrap();
        Self { agent, manifests, _servers: servers, network }
    }

    /// Writes the Service; in force when this returns.
    fn serve(&mut self, service: &Service) {
        self.manifests.apply("service.yaml", &service.objects()).unwrap();
        self.agent.settle(&self.manifests).unwrap();
    }

    /// A pod and the node.
    fn places(&self) -> [Place; 2] {
        let n1 = self.network.node("n1").unwrap();
        [n1.pod("client").unwrap().place(), n1.place()]
    }

    fn hold(&self, to: &[SocketAddr], protocol: Protocol) -> Vec<Held> {
        let hold = |place: &Place| to.iter().map(|to| Held::start(place, *to, protocol).unwrap()).collect::<Vec<_>>();
        self.places().iter().flat_map(hold).collect()
    }

    fn crowds(&self, to: &[SocketAddr]) -> [Crowd; 2] {
        self.places().map(|place| Crowd::start(&place, to).unwrap())
    }

    /// Connects from one place so often that with every endpoint at hand both are met.
    fn met(&self, place: &Place, to: &[SocketAddr]) -> BTreeSet<String> {
        let attempts = client::connect(place, to, 40, &manner(Protocol::Tcp)).unwrap();
        attempts.iter().filter_map(|attempt| attempt.outcome.server().map(str::to_owned)).collect()
    }

    /// Asks from everywhere, over TCP and UDP.
    fn assert_each(&self, to: [SocketAddr; 2], what: &str, is_so: impl Fn(&Attempt) -> bool) {
        for place in self.places() {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let attempts = client::connect(&place, &to, 4, &manner(protocol)).unwrap();
                assert!(attempts.iter().all(&is_so), "{protocol:?}, not {what}: {attempts:?}");
            }
        }
    }

    fn assert_served(&self, to: [SocketAddr; 2]) {
        self.assert_each(to, "served", |attempt| attempt.outcome.server().is_some());
    }

    fn assert_refused(&self, to: [SocketAddr; 2]) {
        self.assert_each(to, "refused", |attempt| attempt.outcome == Outcome::Refused);
    }
}

fn nothing_lost(crowds: [Crowd; 2]) {
    crowds.into_iter().for_each(|crowd| crowd.nothing_lost().unwrap());
}

fn unbroken(held: Vec<Held>) {
    held.into_iter().for_each(|held| held.unbroken().unwrap());
}

/// By the socket hooks where pods are served by them, too, and packet by packet where they are not.
fn on_both_paths(run: impl Fn(World)) {
    for arguments in [&[][..], &["--socket-lb", "host-only"]] {
        println!("{arguments:?}");
        let mut world = World::create(arguments);
        world.serve(&service(&[(80, TARGETS[0], 0)]));
        let [pod, _] = world.places();
        assert_eq!(world.met(&pod, &both(CLUSTER_IP, 80)).len(), SERVERS.len());
        let by_sockets = world.network.node("n1").unwrap().count(Verdict::SocketTranslated).unwrap() > 0;
        assert_eq!(by_sockets, arguments.is_empty());
        run(world);
    }
}

#[test]
fn a_cluster_ip_goes_on_through_every_other_type_and_policy() {
    on_both_paths(|mut world| {
        let (cluster_ip, node_port, vip) = (both(CLUSTER_IP, 80), both(N1, NODE_PORT), both(VIP, 80));
        let crowds = world.crowds(&cluster_ip);
        let mut held = world.hold(&cluster_ip, Protocol::Tcp);
        held.extend(world.hold(&cluster_ip, Protocol::Udp));

        let mut other = service(&[(80, TARGETS[0], NODE_PORT)]);
        world.serve(&other);
        world.assert_served(node_port);
        held.extend(world.hold(&node_port, Protocol::Tcp));
        other.load_balancer = Some(LoadBalancer { vips: vip.map(|vip| vip.ip()).into(), ..LoadBalancer::default() });
        world.serve(&other);
        world.assert_served(vip);
        held.extend(world.hold(&vip, Protocol::Tcp));

        let everywhere = world.crowds(&[node_port, vip].concat());
        world.serve(&Service { internal_local: true, ..other.clone() });
        for place in world.places() {
            assert_eq!(world.met(&place, &cluster_ip), BTreeSet::from(["here".to_owned()]), "internal policy Local");
        }
        world.serve(&Service { external_local: true, ..other.clone() });
        for place in world.places() {
            let to = [cluster_ip, node_port, vip].concat();
            assert_eq!(world.met(&place, &to).len(), SERVERS.len(), "external policy Local, from this node");
        }
        world.serve(&Service { affinity: Some(60), ..other.clone() });
        for place in world.places() {
            for to in cluster_ip {
                assert_eq!(world.met(&place, &[to]).len(), 1, "affinity");
            }
        }
        world.serve(&other);
        for place in world.places() {
            for to in cluster_ip {
                assert_eq!(world.met(&place, &[to]).len(), SERVERS.len(), "no affinity any more");
            }
        }
        nothing_lost(everywhere);

        world.serve(&service(&[(80, TARGETS[0], 0)]));
        world.assert_refused(node_port);
        let brief = Manner { timeout: 300, ..Manner::of(Protocol::Tcp) };
        for place in world.places() {
            let attempts = client::connect(&place, &vip, 2, &brief).unwrap();
            assert!(attempts.iter().all(|attempt| attempt.outcome.server().is_none()), "{attempts:?}");
        }
        nothing_lost(crowds);
        // Those through frontends that are no more end by themselves.
        unbroken(held);
    });
}

#[test]
fn a_port_goes_on_while_others_come_go_and_change_their_numbers() {
    on_both_paths(|mut world| {
        let to = both(CLUSTER_IP, 80);
        let crowds = world.crowds(&to);
        let mut held = world.hold(&to, Protocol::Tcp);
        held.extend(world.hold(&to, Protocol::Udp));
        let [first, second] = TARGETS;

        world.assert_refused(both(CLUSTER_IP, 81));
        world.serve(&service(&[(80, first, 0), (81, second, 0)]));
        world.assert_served(both(CLUSTER_IP, 81));
        held.extend(world.hold(&both(CLUSTER_IP, 81), Protocol::Tcp));
        // Renumbered, and first in the list.
        world.serve(&service(&[(82, second, 0), (80, first, 0)]));
        world.assert_served(both(CLUSTER_IP, 82));
        world.assert_refused(both(CLUSTER_IP, 81));
        // Where the port leads to: new connections follow, those that are there stay.
        world.serve(&service(&[(80, second, 0), (82, first, 0)]));
        world.assert_served(both(CLUSTER_IP, 82));
        world.serve(&service(&[(80, first, 0)]));
        world.assert_refused(both(CLUSTER_IP, 82));
        nothing_lost(crowds);
        unbroken(held);
    });
}
