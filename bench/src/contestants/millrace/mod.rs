//! millrace: an agent on the node, an API server double in the node's namespace, and the maps that the agent writes.

mod agent;
mod programs;
mod records;

use std::{
    fs,
    net::IpAddr,
    process::Child,
    rc::Rc,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use millrace_agent::datapath::{Pins, status};
use millrace_common::verdict::Verdict;
use millrace_tests::interrupt;

use super::{Contestant, Memory, Programmed};
use crate::{
    cluster::{Cluster, objects},
    topology::{Topology, end},
};
use agent::ApiServer;
use records::{Record, Records};

/// Emulated or busy machines are slow; nothing here takes that long on a free one.
const PATIENCE: Duration = Duration::from_secs(300);
/// The agent's option that has XDP serve clients outside.
pub(super) const XDP: &str = "--xdp";
/// How often the map is looked at: two cores serve the API server, the agent and this loop.
const LOOK: Duration = Duration::from_micros(50);

pub(super) struct Millrace {
    /// More of the agent's.
    arguments: &'static [&'static str],
    cluster: Cluster,
    api: ApiServer,
    agent: Option<Child>,
    records: Option<Records>,
    /// The record of the service that was replaced last, and its word before.
    replaced: Option<(Record, u64)>,
    topology: Rc<Topology>,
}

impl Drop for Millrace {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            end(agent);
        }
    }
}

impl Millrace {
    pub(super) fn new(topology: Rc<Topology>, cluster: Cluster, arguments: &'static [&'static str]) -> Result<Self> {
        let api = ApiServer::start(topology.node()?)?;
        Ok(Self { arguments, cluster, api, agent: None, records: None, replaced: None, topology })
    }

    fn pins(&self) -> Result<Pins> {
        Ok(Pins::at(&self.topology.node()?.bpffs.path))
    }

    fn agent(&mut self) -> Result<&mut Child> {
        self.agent.as_mut().context("the agent was not started")
    }

    /// A record in each family for a service, and another for each that has a UDP port.
    fn wait_until_programmed(&mut self) -> Result<()> {
        let measured = (0..self.cluster.services).filter(|i| self.cluster.is_measured(*i)).count();
        let wanted = (self.cluster.families.each().len() * (self.cluster.services as usize + measured)) as f64;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let used = agent::metric(self.topology.node()?, "millrace_map_used{map=\"SERVICES\"}").unwrap_or(0.0);
            if used >= wanted {
                return Ok(());
            }
            if let Some(status) = self.agent()?.try_wait()? {
                bail!("the agent has ended ({status}); its log is above");
            }
            ensure!(Instant::now() < deadline, "{used} of {wanted} service ports programmed after {PATIENCE:?}");
            interrupt::pause(Duration::from_millis(20))?;
        }
    }
}

impl Contestant for Millrace {
    fn version(&self) -> Result<Option<String>> {
        Ok(Some(format!("millrace {}", env!("CARGO_PKG_VERSION"))))
    }

    /// The services are at the API server before the agent starts. What it took it says itself.
    fn program(&mut self) -> Result<Programmed> {
        let node = self.cluster.clients.endpoints_node();
        for i in 0..self.cluster.services {
            self.api.double.apply(objects::service(&self.cluster, i));
            for &family in self.cluster.families.each() {
                self.api.double.apply(objects::slice(node, i, &self.cluster.endpoints_of(i, family)));
            }
        }
        let start = Instant::now();
        self.agent = Some(agent::start(self.topology.node()?, &self.api.double.url(), &self.cluster, self.arguments)?);
        self.wait_until_programmed()?;
        let start = Some(start.elapsed());
        let took = agent::metric(self.topology.node()?, "kubeproxy_sync_proxy_rules_duration_seconds_sum")?;
        self.records = Some(Records::open(&self.pins()?)?);
        Ok(Programmed {
            took: Duration::try_from_secs_f64(took).context("a negative duration")?,
            start,
            parts: Vec::new(),
        })
    }

    fn replace(&mut self, i: u32, endpoints: &[IpAddr]) -> Result<()> {
        let records = self.records.as_ref().context("the services are not programmed")?;
        let record = records.of_service(i, self.cluster.families.each()[0])?;
        self.replaced = Some((record, records.cluster_word(record)?));
        self.api.double.apply(objects::slice(self.cluster.clients.endpoints_node(), i, endpoints));
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        let (Some(records), Some((record, before))) = (&self.records, self.replaced.take()) else { return Ok(()) };
        let start = Instant::now();
        while records.cluster_word(record)? == before {
            ensure!(start.elapsed() < PATIENCE, "a replaced endpoint had no effect within {PATIENCE:?}");
            sleep(LOOK);
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        if let Some(mut agent) = self.agent.take() {
            end(&mut agent);
        }
        self.records = None;
        agent::cleanup(self.topology.node()?)
    }

    fn memory(&self) -> Result<Memory> {
        let agent = self.agent.as_ref().context("the agent was not started")?;
        let status_file = fs::read_to_string(format!("/proc/{}/status", agent.id()))?;
        let mib = |field: &str| -> Result<f64> {
            let line = status_file.lines().find_map(|line| line.strip_prefix(field));
            let kib = line.and_then(|line| line.split_whitespace().next()).with_context(|| format!("no {field}"))?;
            Ok(kib.parse::<f64>()? / 1024.0)
        };
        let programs = programs::mib(&self.pins()?)?;
        Ok(Memory {
            kernel: Some(status(&self.pins()?)?.maps.iter().map(|map| map.mib).sum::<f64>() + programs),
            programs: Some(programs),
            agent: Some(mib("VmRSS:")?),
            agent_anonymous: Some(mib("RssAnon:")?),
        })
    }

    /// XDP leaves to tc what it cannot serve.
    fn check(&self) -> Result<()> {
        if self.arguments.contains(&XDP) {
            let node = self.topology.node()?;
            let (served, left) = (node.count(Verdict::XdpServed)?, node.count(Verdict::XdpLeft)?);
            ensure!(served > left, "XDP has served {served} packets of the clients outside, and left {left} to tc");
        }
        Ok(())
    }
}
