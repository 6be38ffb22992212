//! An agent that starts while the API server keeps it waiting: after `--sync-timeout` it serves what is new, leaves what
//! an earlier agent left as it is, says what it waits for, and catches up when the lists come.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use millrace_tests::{
    agent::Agent,
    apiserver::{ApiServerDouble, Fault, Kind, Verb},
    client::{self, Load, Running},
    manifests::Manifests,
    network::Network,
    node::Node,
    probe::{Manner, Outcome, Protocol},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for what should not happen to happen.
const QUIET: Duration = Duration::from_millis(500);

const STAYS: Ipv4Addr = Ipv4Addr::new(10, 96, 4, 10);
const DELETED: Ipv4Addr = Ipv4Addr::new(10, 96, 4, 11);
const NEW: Ipv4Addr = Ipv4Addr::new(10, 96, 4, 12);
const PODS: [(&str, Ipv4Addr); 3] = [
    ("pod-1", Ipv4Addr::new(192, 168, 1, 21)),
    ("pod-2", Ipv4Addr::new(192, 168, 1, 22)),
    ("client", Ipv4Addr::new(192, 168, 1, 99)),
];

/// One node, servers on it, and the API server that its agent is told to ask.
struct World {
    agent: Option<Agent>,
    _servers: Vec<Running>,
    /// For the agent's log: the objects are the API server's.
    beside: Manifests,
    network: Network,
    server: ApiServerDouble,
    /// What the server runs on.
    _runtime: Runtime,
}

impl World {
    /// An agent has served two Services here, and was killed. Meanwhile one of them was deleted, the other changed its
    /// endpoint, and a third came.
    fn left_by_an_earlier_agent() -> Self {
        let network = Network::of_one_node(&PODS).unwrap();
        let node = network.node("n1").unwrap();
        let serve = |name: &str| client::serve(&node.pod(name).unwrap().place(), name, 8080).unwrap();
        let servers = ["pod-1", "pod-2"].map(serve).into();
        let runtime = Runtime::new().unwrap();
        let server = {
            let _entered = runtime.enter();
            ApiServerDouble::start_on(node)
        };
        let beside = Manifests::create().unwrap();
        let mut world = Self { agent: None, _servers: servers, beside, network, server, _runtime: runtime };
        for (name, address) in [("stays", STAYS), ("deleted", DELETED)] {
            world.server.apply(service(name, address));
            world.server.apply(slice(name, "pod-1"));
        }
        world.start(&[]);
        world.until("both Services are served", |world| world.services() == names(&["stays", "deleted"]));
        assert_eq!([STAYS, DELETED].map(|to| world.answer(to)), ["pod-1", "pod-1"]);
        world.agent.take().unwrap().kill().unwrap();

        world.server.delete(Kind::Service, "shop/deleted");
        world.server.delete(Kind::EndpointSlice, "shop/deleted");
        world.server.apply(slice("stays", "pod-2"));
        world.server.apply(service("new", NEW));
        world.server.apply(slice("new", "pod-2"));
        world
    }

    fn node(&self) -> &Node {
        self.network.node("n1").unwrap()
    }

    fn start(&mut self, arguments: &[&str]) {
        let url = self.server.url();
        let arguments = [&["--source", "kube", "--kube-api", &url], arguments].concat();
        self.agent = Some(Agent::spawn(self.node(), &self.beside, &arguments).unwrap());
    }

    fn agent(&self) -> &Agent {
        self.agent.as_ref().unwrap()
    }

    /// The Services in the maps, by name.
    fn services(&self) -> BTreeSet<String> {
        let Ok(text) = self.agent().ask(&["services"]) else { return BTreeSet::new() };
        names(&["stays", "deleted", "new"]).into_iter().filter(|name| text.contains(&format!("shop/{name}"))).collect()
    }

    /// Who answers a new connection, or why nobody does.
    fn answer(&self, to: Ipv4Addr) -> String {
        let place = self.node().pod("client").unwrap().place();
        let to = [SocketAddr::new(IpAddr::V4(to), 80)];
        let attempts = client::connect(&place, &to, 1, &Manner::of(Protocol::Tcp)).unwrap();
        match &attempts[0].outcome {
            outcome @ Outcome::Refused => format!("{outcome:?}"),
            outcome => outcome.server().map_or_else(|| format!("{outcome:?}"), ToString::to_string),
        }
    }

    /// Status line and body of `/healthz`.
    fn health(&self) -> (String, Value) {
        let ask = || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 10256))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: n1\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        let answer = self.node().netns.run(ask).unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap())
    }

    fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "not in time: {what}\n{}", self.agent().log_tail());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts an agent that is not told of `held`, and waits until it has lost its patience.
    fn start_without(&mut self, held: &[Kind]) {
        for kind in held {
            self.server.fail(*kind, Verb::List, Fault::Held, usize::MAX);
        }
        self.start(&["--sync-timeout", "1"]);
        self.until("the agent says that it waits no longer", |world| {
            world.agent().log_tail().contains("the source is not complete in time")
        });
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

fn service(name: &str, address: Ipv4Addr) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": name},
        "spec": {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80, "protocol": "TCP"}]},
    })
}

fn slice(service: &str, pod: &str) -> Value {
    let (_, address) = PODS.into_iter().find(|(name, _)| *name == pod).unwrap();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "shop", "name": service, "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "nodeName": "n1", "conditions": {"ready": true}}],
    })
}

/// What must be true while the lists of `held` do not come, and after. `served`: the Services in the maps meanwhile.
fn waits_for(held: &[Kind], served: &[&str], new_is: &str) {
    let mut world = World::left_by_an_earlier_agent();
    let place = world.node().pod("client").unwrap().place();
    // A few: the agent's start should not have to wait for them.
    let manner = Manner { every: 10, ..Manner::of(Protocol::Tcp) };
    let load = Load::start(&place, &[SocketAddr::new(STAYS.into(), 80)], 1, &manner).unwrap();
    world.start_without(held);

    let log = world.agent().log_tail();
    let mut kinds: Vec<_> = held.iter().map(|kind| kind.name()).collect();
    kinds.sort_unstable();
    let line = log.lines().find(|line| line.contains("not complete in time")).unwrap();
    let said = format!("no_list_of=\"{}\"", kinds.join(", "));
    assert!(line.contains(&said), "{said}: {line}");
    world.until(&format!("{served:?} are in the maps"), |world| world.services() == names(served));
    thread::sleep(QUIET);
    assert_eq!(world.services(), names(served));
    // As the earlier agent left them, whatever has become of them.
    assert_eq!([STAYS, DELETED].map(|to| world.answer(to)), ["pod-1", "pod-1"]);
    if served.contains(&"new") {
        assert_eq!(world.answer(NEW), new_is);
    }
    let (status, body) = world.health();
    assert_eq!((status.as_str(), &body["lastUpdated"]), ("HTTP/1.1 200 OK", &json!("")), "{body}");

    world.server.heal();
    world.until("the maps say what the server says", |world| {
        world.services() == names(&["stays", "new"]) && [STAYS, NEW].map(|to| world.answer(to)) == ["pod-2", "pod-2"]
    });
    assert_ne!(world.answer(DELETED), "pod-1");
    world.until("the agent is in step", |world| world.health().1["lastUpdated"] != "");
    let report = load.stop().unwrap();
    assert_eq!(report.failed, 0, "{:#?}", report.failures);
    assert!(report.total() > 100, "too few connections to mean anything: {report:?}");
}

#[test]
fn without_any_list_everything_stays_as_it_was() {
    let all = [Kind::Service, Kind::EndpointSlice, Kind::ServiceCidr, Kind::Node];
    waits_for(&all, &["stays", "deleted"], "");
}

#[test]
fn without_the_slices_no_service_loses_its_endpoints_and_a_new_one_refuses() {
    waits_for(&[Kind::EndpointSlice], &["stays", "deleted", "new"], "Refused");
}

#[test]
fn without_the_services_everything_stays_as_it_was() {
    waits_for(&[Kind::Service], &["stays", "deleted"], "");
}

#[test]
fn a_new_service_follows_its_endpoints_though_another_list_never_comes() {
    let mut world = World::left_by_an_earlier_agent();
    world.start_without(&[Kind::Node]);
    world.until("the new Service is served", |world| world.answer(NEW) == "pod-2");
    world.server.apply(slice("new", "pod-1"));
    world.until("it follows its endpoints", |world| world.answer(NEW) == "pod-1");
    assert_eq!([STAYS, DELETED].map(|to| world.answer(to)), ["pod-1", "pod-1"]);
}
