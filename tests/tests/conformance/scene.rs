//! The topology that the tables' headers describe, with the product on both nodes, and a row's service as manifests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};
use millrace_tests::{
    address::{in_family, twin},
    agent::Agent,
    client::{self, Running},
    manifests::{Endpoint, LoadBalancer, Manifests, Port, Service, pod},
    mark::Mark,
    network::{Network, NodeSpec, OUTSIDE},
    node::Node,
    place::{self, Place},
    pod::{Pod, uid},
};

use crate::table::{Becomes, Case, From, Policy, Protocol, ServiceRow, State};

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Names, nodes and addresses as the table's header has them.
const PODS: [(&str, &str, Ipv4Addr); 3] = [
    ("p1", "n1", Ipv4Addr::new(192, 168, 1, 11)),
    ("p1b", "n1", Ipv4Addr::new(192, 168, 1, 12)),
    ("p2", "n2", Ipv4Addr::new(192, 168, 2, 21)),
];
const TARGET: u16 = 8080;

/// Addresses that the world outside reaches through n1.
const ROUTED: [Ipv4Addr; 3] = [CLUSTER_IP, Ipv4Addr::new(198, 51, 100, 5), Ipv4Addr::new(198, 51, 100, 7)];

/// Two nodes with an agent on each, three pods that serve.
pub(crate) struct Scene {
    // Order of the fields: the agents and the servers end before their network does.
    agents: Vec<Agent>,
    _servers: Vec<Running>,
    manifests: Manifests,
    pub(crate) network: Network,
}

impl Scene {
    /// `arguments`: of both agents; `chosen`: all pods say that they are to be translated per packet.
    pub(crate) fn create(arguments: &[&str], chosen: bool) -> Result<Self> {
        let specs = [NodeSpec { name: "n1", zone: "a", number: 1 }, NodeSpec { name: "n2", zone: "a", number: 2 }];
        let mut network = Network::create(&specs)?;
        let mut servers = Vec::new();
        for (name, node, address) in PODS {
            let pod = network.node_mut(node)?.add_pod(name, address)?;
            servers.push(client::serve(&pod.place(), name, TARGET)?);
        }
        let manifests = Manifests::create()?;
        if chosen {
            let pods = PODS.map(|(name, node, address)| pod(node, "default", name, &uid(address), Some("off")));
            manifests.apply("pods.yaml", &pods)?;
        }
        let through =
            |ip: IpAddr| format!("route add {ip} via {}", in_family(Ipv4Addr::new(10, 0, 0, 1), ip.is_ipv6()));
        let routes: Vec<_> = ROUTED.into_iter().flat_map(both).map(through).collect();
        network.router.ip(&routes)?;
        network.lay_cables()?;
        let start = |node: &str| Agent::start(network.node(node)?, &manifests, arguments);
        let agents = vec![start("n1")?, start("n2")?];
        Ok(Self { agents, _servers: servers, manifests, network })
    }

    pub(crate) fn n1(&self) -> Result<&Node> {
        self.network.node("n1")
    }

    /// The pod that a row calls so.
    pub(crate) fn pod(&self, name: &str) -> Result<&Pod> {
        let (_, node, _) = PODS.into_iter().find(|(pod, ..)| *pod == name).with_context(|| format!("no pod {name}"))?;
        self.network.node(node)?.pod(name)
    }

    /// Where the row's client lives, and its address in one family.
    pub(crate) fn client(&self, from: From, v6: bool) -> Result<(Place, IpAddr)> {
        Ok(match from {
            From::Pod => (self.pod("p1b")?.place(), self.pod("p1b")?.address(v6)),
            From::PodSelf => (self.pod("p1")?.place(), self.pod("p1")?.address(v6)),
            From::Host => (self.n1()?.place(), self.n1()?.address(v6)),
            From::Outside => (self.outside()?, in_family(OUTSIDE, v6)),
        })
    }

    /// Makes the row's service, or what it becomes, the only one; in force when this returns.
    pub(crate) fn apply(&mut self, case: &Case, changed: bool) -> Result<()> {
        self.write(case, changed)?;
        self.settle()
    }

    fn settle(&mut self) -> Result<()> {
        let mark = Mark::write(&self.manifests)?;
        self.agents.iter_mut().try_for_each(|agent| agent.wait_for(&mark))
    }

    /// A process outside is in no node's cgroup.
    fn outside(&self) -> Result<Place> {
        Ok(Place { netns: self.network.outside.handle(), cgroup: place::root()? })
    }

    /// As [`Scene::apply`], without waiting.
    pub(crate) fn write(&self, case: &Case, changed: bool) -> Result<()> {
        self.manifests.apply("service.yaml", &service(case, changed)?.objects())
    }

    /// Takes the row's service away.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.manifests.remove("service.yaml")?;
        self.settle()
    }

    /// How often something happened on n1.
    pub(crate) fn count(&self, verdict: millrace_common::verdict::Verdict) -> Result<u64> {
        let counters = self.counters()?;
        let found = counters.iter().find(|counter| counter.verdict == verdict.name());
        Ok(found.with_context(|| format!("no counter {}", verdict.name()))?.count)
    }

    fn counters(&self) -> Result<Vec<Counter>> {
        Ok(serde_json::from_str(&self.agents[0].ask(&["stats"])?)?)
    }

    /// The counters of n1 that are not zero, for a failure's report.
    pub(crate) fn stats(&self) -> String {
        match self.counters() {
            Ok(counters) => counters
                .iter()
                .filter(|counter| counter.count > 0)
                .map(|counter| format!("{:8} {}\n", counter.count, counter.verdict))
                .collect(),
            Err(error) => format!("no counters: {error:#}"),
        }
    }
}

#[derive(serde::Deserialize)]
struct Counter {
    verdict: String,
    count: u64,
}

/// The row's service as its manifests say it, dual stack; `changed`: after `becomes`.
fn service(case: &Case, changed: bool) -> Result<Service> {
    let row = &case.service;
    let (names, terminating) = match &row.becomes {
        Some(Becomes::Endpoints(names)) if changed => (names, false),
        Some(Becomes::State(State::Terminating)) if changed => (&row.endpoints, true),
        _ => (&row.endpoints, false),
    };
    let mut endpoints = Vec::new();
    for name in names {
        let (_, node, v4) = PODS.into_iter().find(|(pod, ..)| pod == name).with_context(|| format!("no pod {name}"))?;
        for address in [IpAddr::from(v4), twin(v4).into()] {
            endpoints.push(Endpoint { address, node: node.to_owned(), terminating });
        }
    }
    let name = case.name.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    Ok(Service {
        name,
        cluster_ips: both(CLUSTER_IP),
        ports: ports(row),
        endpoints,
        internal_local: row.internal == Some(Policy::Local),
        external_local: row.external == Some(Policy::Local),
        affinity: row.affinity,
        external_ips: row.external_ip.as_deref().map(|ip| ip.parse().map(both)).transpose()?.unwrap_or_default(),
        load_balancer: load_balancer(row)?,
    })
}

fn ports(row: &ServiceRow) -> Vec<Port> {
    let protocols = row.protocols.clone().unwrap_or_else(|| vec![Protocol::Tcp, Protocol::Udp]);
    let port = |protocol| {
        let name = match protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        };
        Port {
            name: name.to_lowercase(),
            protocol: name.to_owned(),
            port: 80,
            target: TARGET,
            node_port: row.node_port.unwrap_or(0),
        }
    };
    protocols.into_iter().map(port).collect()
}

fn load_balancer(row: &ServiceRow) -> Result<Option<LoadBalancer>> {
    let Some(vip) = &row.vip else { return Ok(None) };
    let mut source_ranges = row.source_ranges.clone();
    for range in &row.source_ranges {
        let (address, length) = range.split_once('/').context("a source range has a length")?;
        // The twin writes each octet as a group: three groups and the prefix fd00 for a /24.
        let groups = 1 + length.parse::<u8>()?.div_ceil(8);
        source_ranges.push(format!("{}/{}", twin(address.parse()?), u16::from(groups.min(4)) * 16));
    }
    Ok(Some(LoadBalancer { vips: both(vip.parse()?), ip_mode: row.ip_mode.clone(), source_ranges }))
}

fn both(v4: Ipv4Addr) -> Vec<IpAddr> {
    vec![v4.into(), twin(v4).into()]
}

/// A row's destination in the family that is run; a mapped one stays as it is.
pub(crate) fn destination(text: &str, v6: bool) -> Result<SocketAddr> {
    match text.parse::<SocketAddr>()? {
        SocketAddr::V4(v4) if v6 && v4.ip().is_loopback() => Ok(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), v4.port())),
        SocketAddr::V4(v4) => Ok(SocketAddr::new(in_family(*v4.ip(), v6), v4.port())),
        mapped => Ok(mapped),
    }
}
