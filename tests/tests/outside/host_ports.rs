//! Host ports of pods, with real sockets: from outside, from pods of this node (the one behind it, too) and of another, and
//! from the node. No source says them to an agent yet, so its own stages are told here, over the maps that it leaves.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use millrace_agent::{
    app::Pipeline,
    datapath::{KernelTables, Limits, Pins, grace, snapshot},
    diff::Planner,
    lb::{NodeInfo, NodePortAddresses},
    model::{HostPorts, PortMapping, Protocol as Transport, ServiceKey},
    watch::Change,
};
use millrace_tests::{
    address::both,
    client::{self, Load, Running, Stream},
    crowd::{Crowd, Held, manner},
    network::OUTSIDE,
    place::Place,
    probe::{Manner, Outcome, Protocol},
};

use crate::world::{Backend, N1, PATIENCE, World, worlds};

const NEAR: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const TARGET: u16 = 8073;
/// The one that goes, of the pod `here`.
const GOING: u16 = 8091;
/// The one that stays, of the pod `near`.
const STAYING: u16 = 8092;
/// The node's stack says only so often that nobody listens at a port.
const BRIEF: Manner = Manner { protocol: Protocol::Udp, timeout: 300, every: 10 };

/// Whoever wires pods.
struct Wiring(Pipeline<KernelTables>);

impl Wiring {
    /// In the place of the agent, which ends; its programs go on.
    fn take_over(world: &mut World) -> Self {
        world.agent.take().unwrap().terminate().unwrap();
        let n1 = world.network.node("n1").unwrap();
        let pins = Pins::at(&n1.bpffs.path);
        let tables = KernelTables::open(&pins, grace::start().unwrap()).unwrap();
        let planner = Planner::restore(&snapshot(&pins).unwrap(), Limits::default().sizes());
        let node = NodeInfo {
            name: "n1".into(),
            zone: None,
            addresses: n1.addresses().into(),
            primary: n1.addresses().into(),
            stands_alone: true,
            node_ports: NodePortAddresses::default(),
        };
        let mut pipeline = Pipeline::new(node, planner.cidrs().clone(), planner, tables);
        // What the agent left is not touched.
        pipeline.stop_waiting();
        Self(pipeline)
    }

    /// A sandbox's host port, over TCP and UDP, or that it has none; in force when this returns.
    fn say(&mut self, sandbox: &str, port: Option<(Ipv4Addr, u16)>) {
        let ports = port.map(|(pod, host_port)| {
            let mapping = |protocol| PortMapping { host: None, host_port, protocol, pod_port: TARGET };
            let mappings = [Transport::Tcp, Transport::Udp].map(mapping).into();
            Box::new(HostPorts { pod: both(pod, 0).map(|it| it.ip()).into(), mappings })
        });
        self.0.take(Change::HostPorts(ServiceKey::of_sandbox(sandbox).unwrap(), ports));
        let round = self.0.round();
        assert!(round.failures == 0 && round.written > 0, "{round:?}");
    }
}

fn places(world: &World) -> [(&'static str, Place); 5] {
    let [n1, n2] = ["n1", "n2"].map(|name| world.network.node(name).unwrap());
    let [near, here] = ["near", "here"].map(|name| n1.pod(name).unwrap().place());
    let there = n2.pod("there").unwrap().place();
    [("outside", world.outside()), ("near", near), ("here", here), ("there", there), ("the node", n1.place())]
}

fn servers(world: &mut World) -> [Running; 2] {
    let n1 = world.network.node_mut("n1").unwrap();
    n1.add_pod("near", NEAR).unwrap();
    ["here", "near"].map(|name| client::serve(&n1.pod(name).unwrap().place(), name, TARGET).unwrap())
}

/// From everywhere.
fn assert_each(world: &World, port: u16, manner: &Manner, is_so: impl Fn(&Outcome) -> bool) {
    for (who, place) in places(world) {
        let attempts = client::connect(&place, &both(N1, port), 2, manner).unwrap();
        assert!(attempts.iter().all(|it| is_so(&it.outcome)), "{who}, {manner:?} at {port}: {attempts:?}");
    }
}

/// Served by this pod, which sees who is outside.
fn assert_served(world: &World, port: u16, name: &str) {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        assert_each(world, port, &manner(protocol), |outcome| outcome.server() == Some(name));
    }
    for attempt in client::connect(&world.outside(), &both(N1, port), 2, &manner(Protocol::Tcp)).unwrap() {
        let Outcome::Answered { greeting, peer } = attempt.outcome else { panic!("{attempt:?}") };
        assert!(both(OUTSIDE, 0).iter().any(|client| client.ip() == greeting.client.ip()), "{greeting:?}");
        assert_eq!(peer, attempt.to);
    }
}

#[test]
fn a_pods_host_port_is_served_to_everybody_and_when_it_goes_under_load_another_pods_stays() {
    for mut world in worlds() {
        let _servers = servers(&mut world);
        for pods_way in [&[][..], &["--socket-lb", "host-only"]] {
            drop(world.agent.take());
            world.start_with(pods_way);
            let mut wiring = Wiring::take_over(&mut world);
            wiring.say("going", Some((Backend::Here.v4(), GOING)));
            wiring.say("staying", Some((NEAR, STAYING)));
            assert_served(&world, GOING, "here");
            assert_served(&world, STAYING, "near");

            let [going, staying] = [GOING, STAYING].map(|port| both(N1, port));
            let hold =
                |to: SocketAddr| places(&world).map(|(_, place)| Held::start(&place, to, Protocol::Tcp).unwrap());
            let held = [going[0], going[1], staying[0], staying[1]].map(hold);
            let crowds = places(&world).map(|(who, place)| (who, Crowd::start(&place, &staying).unwrap()));
            let load = Load::start(&world.outside(), &going, 1, &manner(Protocol::Tcp)).unwrap();
            // Of the sockets that are there, those that send datagrams learn of it.
            let mut datagrams = places(&world).map(|(who, place)| {
                let mut stream = Stream::start(&place, going[0], &BRIEF).unwrap();
                stream.wait_for(PATIENCE, |outcome| outcome.server().is_some()).unwrap();
                (who, stream)
            });
            thread::sleep(Duration::from_millis(50));
            wiring.say("going", None);
            assert_each(&world, GOING, &manner(Protocol::Tcp), |outcome| *outcome == Outcome::Refused);
            assert_each(&world, GOING, &BRIEF, |outcome| outcome.server().is_none());
            for (who, stream) in datagrams.iter_mut().filter(|(who, _)| *who != "the node") {
                let refused = stream.wait_for(PATIENCE, |outcome| *outcome == Outcome::Refused);
                refused.unwrap_or_else(|error| panic!("{who}: {error}"));
            }
            let report = load.stop().unwrap();
            let refused = report.failures.iter().all(|attempt| attempt.outcome == Outcome::Refused);
            assert!(report.total() > 0 && report.failed > 0 && refused, "{report:#?}");
            for (who, crowd) in crowds {
                crowd.nothing_lost().unwrap_or_else(|error| panic!("{who}: {error}"));
            }
            held.into_iter().flatten().for_each(|held| held.unbroken().unwrap());
            wiring.say("staying", None);
        }
    }
}
