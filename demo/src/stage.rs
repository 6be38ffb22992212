//! Everything that the demo makes: nodes, pods, agents, shoppers. Dropping it takes all of it down.

use std::{
    io::{BufRead, BufReader, Read},
    net::Ipv4Addr,
    path::Path,
    process::{Child, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use indicatif::ProgressBar;
use millrace_tests::{
    agent::Agent,
    interrupt,
    manifests::Manifests,
    network::{Network, NodeSpec},
    place::Place,
};
use std::collections::BTreeMap;

use crate::{
    shop::{Entry, PodSpec},
    shopper::{Report, Target},
};

pub(crate) const NODES: [NodeSpec<'static>; 2] = [
    NodeSpec { name: "node-a", zone: "eu-central-1a", number: 1 },
    NodeSpec { name: "node-b", zone: "eu-central-1b", number: 2 },
];

/// A child that is killed when it is dropped.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A shopper at work.
#[derive(Debug)]
pub(crate) struct Shopper {
    _process: Process,
    pub(crate) node: &'static str,
    latest: Arc<Mutex<Report>>,
}

impl Shopper {
    /// What it has counted so far.
    pub(crate) fn report(&self) -> Report {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) struct Stage {
    // Order of the fields: processes end before the network that they live in.
    pub(crate) agents: BTreeMap<&'static str, Agent>,
    pub(crate) shoppers: Vec<Shopper>,
    servers: BTreeMap<String, Process>,
    pub(crate) manifests: Manifests,
    network: Network,
}

impl Stage {
    /// Nodes, a pod for every endpoint, a shopper's pod on each node; no agent yet.
    pub(crate) fn build(entries: &[Entry], progress: &ProgressBar) -> Result<Self> {
        let network = Network::create(&NODES)?;
        let manifests = Manifests::create()?;
        let mut stage =
            Self { agents: BTreeMap::new(), shoppers: Vec::new(), servers: BTreeMap::new(), manifests, network };
        for spec in NODES {
            let address = Ipv4Addr::new(192, 168, spec.number, 250);
            stage.network.node_mut(spec.name)?.add_pod("shopper", address)?;
        }
        let pods: Vec<_> = entries.iter().map(Entry::pods).collect::<Result<Vec<_>>>()?.concat();
        progress.set_length(pods.len() as u64);
        for pod in pods {
            interrupt::check()?;
            progress.set_message(pod.name.clone());
            stage.add_pod(&pod)?;
            progress.inc(1);
        }
        for entry in entries {
            stage.apply(entry)?;
        }
        Ok(stage)
    }

    /// Wires a pod and starts its server.
    pub(crate) fn add_pod(&mut self, pod: &PodSpec) -> Result<()> {
        let place = self.network.node_mut(&pod.node)?.add_pod(&pod.name, pod.v4)?.place();
        let port = pod.port.to_string();
        let mut arguments = vec!["pod", "--name", &pod.name, "--zone", &pod.zone, "--port", &port];
        if pod.udp {
            arguments.push("--udp");
        }
        let mut process = start(&place, &arguments)?;
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().context("no standard output")?).read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!("the server of pod {} did not start", pod.name);
        }
        self.servers.insert(pod.name.clone(), process);
        Ok(())
    }

    /// Ends a pod's server and takes the pod away.
    pub(crate) fn remove_pod(&mut self, pod: &PodSpec) -> Result<()> {
        self.servers.remove(&pod.name);
        self.network.node_mut(&pod.node)?.remove_pod(&pod.name);
        Ok(())
    }

    /// Writes a service's objects into the directory that both agents watch.
    pub(crate) fn apply(&self, entry: &Entry) -> Result<()> {
        self.manifests.apply(&entry.file, &entry.objects()?)
    }

    /// Starts the agent of a node; it serves all manifests when this returns.
    pub(crate) fn start_agent(&mut self, node: &'static str) -> Result<()> {
        let agent = Agent::start(self.network.node(node)?, &self.manifests, &[])?;
        self.agents.insert(node, agent);
        Ok(())
    }

    /// Starts asking every service from every node.
    pub(crate) fn start_shoppers(&mut self, targets: &[Target]) -> Result<()> {
        let targets = serde_json::to_string(targets)?;
        for spec in NODES {
            let mut process = start(&self.shopper_place(spec.name)?, &["shopper", "--targets", &targets])?;
            let stdout = BufReader::new(process.0.stdout.take().context("no standard output")?);
            let latest = Arc::new(Mutex::new(Report::new()));
            let shared = Arc::clone(&latest);
            thread::spawn(move || {
                for line in stdout.lines().map_while(Result::ok) {
                    if let Ok(report) = serde_json::from_str(&line) {
                        *shared.lock().unwrap_or_else(PoisonError::into_inner) = report;
                    }
                }
            });
            self.shoppers.push(Shopper { _process: process, node: spec.name, latest });
        }
        Ok(())
    }

    /// What `millrace-demo ARGUMENTS` prints when run in the shopper's pod of a node.
    pub(crate) fn run_in_shopper(&self, node: &str, arguments: &[&str]) -> Result<String> {
        let mut process = start(&self.shopper_place(node)?, arguments)?;
        let mut stdout = process.0.stdout.take().context("no standard output")?;
        // On a thread of its own: a pipe that nobody empties would keep the child from its end.
        let reading = thread::spawn(move || {
            let mut printed = String::new();
            stdout.read_to_string(&mut printed).map(|_| printed)
        });
        while !reading.is_finished() {
            interrupt::pause(Duration::from_millis(20))?;
        }
        let status = process.0.wait()?;
        if !status.success() {
            bail!("{} ended with {status}", arguments.join(" "));
        }
        let printed = reading.join().map_err(|_| anyhow!("the thread that reads what it prints panicked"))?;
        Ok(printed?)
    }

    fn shopper_place(&self, node: &str) -> Result<Place> {
        Ok(self.network.node(node)?.pod("shopper")?.place())
    }
}

/// This very program, with another verb, in a pod.
fn start(place: &Place, arguments: &[&str]) -> Result<Process> {
    let mut command = place.command(Path::new("/proc/self/exe"))?;
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(Process(command.spawn().with_context(|| format!("cannot start {}", arguments.join(" ")))?))
}
