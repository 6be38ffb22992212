//! The rows of endpoint selection with real sockets: a Service in front of pods that stand for the row's endpoints, and who of
//! them answers a pod of the node, and a client outside.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use anyhow::{Context, Result, bail, ensure};
use millrace_common::verdict::Verdict;
use millrace_tests::{
    address::{in_family, twin},
    agent::Agent,
    client::{self, Running},
    manifests::{Manifests, Port, Service, pod},
    network::{Network, NodeSpec},
    place::{self, Place},
    pod::uid,
    probe::{Attempt, Manner, Outcome, Protocol},
};
use serde_json::{Value, json};

use crate::{
    Path,
    selection::{Case, CaseEndpoint, CasePolicy},
};

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 20);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const NODE_PORT: u16 = 30_020;
const TARGET: u16 = 8080;
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 9);
const ZONE: &str = "topology.kubernetes.io/zone";

/// What every row is run with, as docs/conformance.md says it.
pub(crate) const SAID: &str = "TCP, UDP; IPv4, IPv6";

/// The node that decides, with an agent, another one, and pods on both that serve.
pub(crate) struct Choosing {
    // Order of the fields: the agent and the servers end before their network does.
    agent: Agent,
    _servers: Vec<Running>,
    manifests: Manifests,
    network: Network,
    path: Path,
}

impl Choosing {
    /// `most`: as many endpoints as a row has.
    pub(crate) fn create(arguments: &[&str], path: Path, most: usize) -> Result<Self> {
        let specs = [NodeSpec { name: "n1", zone: "", number: 1 }, NodeSpec { name: "n2", zone: "", number: 2 }];
        let mut network = Network::create(&specs)?;
        network.node_mut("n1")?.add_pod("client", CLIENT)?;
        let mut servers = Vec::new();
        for (number, here) in (0..most).flat_map(|number| [(number, true), (number, false)]) {
            let name = name(number, here);
            let pod = network.node_mut(if here { "n1" } else { "n2" })?.add_pod(&name, address(number, here)?)?;
            servers.push(client::serve(&pod.place(), &name, TARGET)?);
        }
        network.lay_cables()?;
        let manifests = Manifests::create()?;
        if path == Path::ChosenPods {
            manifests.apply("pods.yaml", &[pod("n1", "default", "client", &uid(CLIENT), Some("off"))])?;
        }
        // The rows' zones come as the Node's label.
        let arguments = [arguments, &["--zone", ""]].concat();
        let agent = Agent::start(network.node("n1")?, &manifests, &arguments)?;
        Ok(Self { agent, _servers: servers, manifests, network, path })
    }

    /// Runs one row; what is wrong with it.
    pub(crate) fn run(&mut self, case: &Case) -> Result<Vec<String>> {
        self.manifests.apply("row.yaml", &objects(case)?)?;
        self.agent.settle(&self.manifests)?;
        let mut problems = Vec::new();
        let before = self.counted()?;
        let all = self.asked(case)?;
        for asked in &all {
            if let Err(error) = self.ask(case, asked) {
                problems.push(format!("{}: {:?} {}: {error:#}", case.name, asked.protocol, asked.to));
            }
        }
        problems.extend(self.not_of_the_path(&all, before)?.map(|problem| format!("{}: {problem}", case.name)));
        // A datagram from a port that was used before would go on with a flow of the row before it.
        self.manifests.remove("row.yaml")?;
        self.agent.settle(&self.manifests)?;
        Ok(problems)
    }

    /// Every frontend that the row's Service has, in both families and over both protocols, from where this path serves it.
    fn asked(&self, case: &Case) -> Result<Vec<Asked>> {
        let inside = (self.path != Path::Xdp).then_some((false, CLUSTER_IP, 80, &case.service.internal));
        let outside = case.service.reachable.then_some((true, NODE, NODE_PORT, &case.service.external));
        let mut all = Vec::new();
        for (outside, ip, port, policy) in inside.into_iter().chain(outside) {
            let set = if *policy == CasePolicy::Local { &case.expect.local } else { &case.expect.cluster };
            let set = set.as_ref().context("the row says that the set of its own policy is never used")?;
            let servers: BTreeSet<String> = set.iter().map(|ip| server(case, *ip)).collect::<Result<_>>()?;
            for (v6, protocol) in [false, true].into_iter().flat_map(|v6| [(v6, Protocol::Tcp), (v6, Protocol::Udp)]) {
                let to = SocketAddr::new(in_family(ip, v6), port);
                all.push(Asked { outside, to, protocol, servers: servers.clone() });
            }
        }
        Ok(all)
    }

    fn ask(&self, case: &Case, asked: &Asked) -> Result<()> {
        let place = if asked.outside {
            Place { netns: self.network.outside.handle(), cgroup: place::root()? }
        } else {
            self.network.node("n1")?.pod("client")?.place()
        };
        // None of eight is missed once in a hundred million runs.
        let count = 3.max(20 * asked.servers.len());
        let timeout = if asked.servers.is_empty() { 700 } else { 5000 };
        let attempts = client::connect(&place, &[asked.to], count, &Manner { timeout, ..Manner::of(asked.protocol) })?;
        ensure!(attempts.len() == count, "only {} of {count} attempts", attempts.len());
        if asked.servers.is_empty() {
            // KEP-1669: somewhere is an endpoint, and not for this node; else there is none at all.
            let expected = if case.expect.any { Outcome::Silence } else { Outcome::Refused };
            let all = attempts.iter().all(|attempt| attempt.outcome == expected);
            ensure!(all, "expected {expected:?}: {attempts:?}");
            return Ok(());
        }
        let answered =
            |attempt: &Attempt| attempt.outcome.server().map(ToOwned::to_owned).context(format!("{attempt:?}"));
        let seen: BTreeSet<String> = attempts.iter().map(answered).collect::<Result<_>>()?;
        ensure!(seen == asked.servers, "expected {:?}, answered by {seen:?}", asked.servers);
        Ok(())
    }

    /// How often sockets were translated on the node, and XDP has served.
    fn counted(&self) -> Result<[u64; 2]> {
        let node = self.network.node("n1")?;
        Ok([node.count(Verdict::SocketTranslated)?, node.count(Verdict::XdpServed)?])
    }

    fn not_of_the_path(&self, asked: &[Asked], before: [u64; 2]) -> Result<Option<String>> {
        let now = self.counted()?;
        let [sockets, xdp] = [now[0] - before[0], now[1] - before[1]];
        let inside = asked.iter().any(|asked| !asked.outside && !asked.servers.is_empty());
        let elsewhere = asked.iter().flat_map(|asked| &asked.servers).any(|server| server.starts_with(ELSEWHERE));
        let wrong = match self.path {
            Path::Sockets => inside != (sockets > 0),
            Path::Packets | Path::ChosenPods => sockets > 0,
            Path::Xdp => elsewhere && xdp == 0,
        };
        Ok(wrong.then(|| format!("not served by {:?}: {sockets} sockets translated, {xdp} packets by XDP", self.path)))
    }
}

struct Asked {
    outside: bool,
    to: SocketAddr,
    protocol: Protocol,
    /// Who is to answer.
    servers: BTreeSet<String>,
}

const HERE: &str = "here";
const ELSEWHERE: &str = "elsewhere";

fn name(number: usize, here: bool) -> String {
    format!("{}-{number}", if here { HERE } else { ELSEWHERE })
}

fn address(number: usize, here: bool) -> Result<Ipv4Addr> {
    let last = u8::try_from(number + 11).ok().filter(|last| *last < 250).context("too many endpoints for one row")?;
    Ok(Ipv4Addr::new(192, 168, if here { 1 } else { 2 }, last))
}

/// Whether the pod that stands for the endpoint is on the node that decides.
fn is_here(case: &Case, endpoint: &CaseEndpoint) -> bool {
    endpoint.node.as_ref() == Some(&case.node.name)
}

/// Who answers in the place of the row's endpoint.
fn server(case: &Case, ip: IpAddr) -> Result<String> {
    let found = case.endpoints.iter().enumerate().find(|(_, endpoint)| endpoint.a == ip);
    let Some((number, endpoint)) = found else { bail!("{ip} is expected, and no endpoint of the row") };
    Ok(name(number, is_here(case, endpoint)))
}

/// The node that decides is always n1 here.
fn renamed<'a>(case: &Case, node: &'a str) -> &'a str {
    match node {
        node if node == case.node.name => "n1",
        "n1" => "another",
        node => node,
    }
}

fn objects(case: &Case) -> Result<Vec<Value>> {
    let port = |protocol: &str| Port {
        name: protocol.to_lowercase(),
        protocol: protocol.to_owned(),
        port: 80,
        target: TARGET,
        node_port: if case.service.reachable { NODE_PORT } else { 0 },
    };
    let service = Service {
        name: "row".into(),
        cluster_ips: vec![CLUSTER_IP.into(), twin(CLUSTER_IP).into()],
        ports: vec![port("TCP"), port("UDP")],
        internal_local: case.service.internal == CasePolicy::Local,
        external_local: case.service.external == CasePolicy::Local,
        ..Service::default()
    };
    let mut objects = service.objects();
    if service.external_local {
        // Also of one that nobody outside reaches: then it must not matter.
        objects[0]["spec"]["externalTrafficPolicy"] = "Local".into();
    }
    for (slice, v6) in objects[1..].iter_mut().zip([false, true]) {
        let endpoints = case.endpoints.iter().enumerate();
        let endpoints: Vec<_> = endpoints.map(|(number, e)| endpoint(case, number, e, v6)).collect::<Result<_>>()?;
        slice["endpoints"] = endpoints.into();
    }
    let mut labels = json!({});
    if !case.node.zone.is_empty() {
        labels[ZONE] = case.node.zone.clone().into();
    }
    objects.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": labels}, "spec": {}}));
    Ok(objects)
}

/// As the slice has it: what the row leaves out is left out.
fn endpoint(case: &Case, number: usize, endpoint: &CaseEndpoint, v6: bool) -> Result<Value> {
    let mut object = json!({
        "addresses": [in_family(address(number, is_here(case, endpoint))?, v6)],
        "conditions": {"ready": endpoint.ready, "serving": endpoint.serving, "terminating": endpoint.terminating},
    });
    if let Some(node) = &endpoint.node {
        object["nodeName"] = renamed(case, node).into();
    }
    let zones: Vec<_> = endpoint.zones.iter().map(|zone| json!({"name": zone})).collect();
    let nodes: Vec<_> = endpoint.nodes.iter().map(|node| json!({"name": renamed(case, node)})).collect();
    for (hints, key) in [(zones, "forZones"), (nodes, "forNodes")] {
        if !hints.is_empty() {
            object["hints"][key] = hints.into();
        }
    }
    Ok(object)
}
