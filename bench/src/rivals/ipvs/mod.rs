//! kube-proxy's IPVS mode: virtual servers in the kernel, a dummy device that has every service's address, IP sets, and
//! a constant number of iptables rules that match on them.
//!
//! `servers` writes ipvsadm's input, which `restore` reads in ipvsadm's place, `sets` ipset's, `rules` that of
//! iptables-restore. kube-proxy has no partial sync
//! here: at each it asks the kernel for every virtual server and its endpoints, runs about twenty iptables commands,
//! and one ipset process per new entry. Here one process per tool sends only what changed, which favours this rival.

mod message;
mod netlink;
mod restore;
mod rules;
mod servers;
mod sets;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

pub use self::restore::restore;
use self::servers::{Change, DEVICE, Real, Servers, servers};
use super::{
    Rival,
    catalog::Catalog,
    error::Error,
    iptables::{Backend, tool::Tool},
    namespace::Namespace,
    service::{Family, Node, Service, ServiceKey},
    ways::{Laps, Part, Way},
};

/// How long an endpoint that is gone keeps its connections (`rsCheckDeleteInterval`).
const TERMINATES_FOR: Duration = Duration::from_secs(60);

/// kube-proxy `--proxy-mode=ipvs`.
#[derive(Debug)]
pub struct Ipvs {
    tool: Tool,
    node: Node,
    writer: PathBuf,
    services: Catalog,
    terminating: Vec<(Instant, Real)>,
    parts: Vec<Part>,
}

impl Ipvs {
    /// `backend` is for the rules around it; `writer` is `millrace-bench`, which writes the servers ([`restore`]).
    #[must_use]
    pub fn new(namespace: Namespace, backend: Backend, node: Node, writer: PathBuf) -> Self {
        Self {
            tool: Tool { backend, namespace },
            node,
            writer,
            services: Catalog::default(),
            terminating: Vec::new(),
            parts: Vec::new(),
        }
    }

    fn run(&self, program: &str, arguments: &[&str], input: String) -> Result<(), Error> {
        // An empty input changes nothing.
        if input.is_empty() { Ok(()) } else { self.tool.namespace.run(program, arguments, input).map(drop) }
    }

    fn sysctls(&self) -> Result<(), Error> {
        for name in ["conntrack", "expire_nodest_conn", "expire_quiescent_template"] {
            self.tool.namespace.sysctl(&format!("net/ipv4/vs/{name}"), "1")?;
        }
        Ok(())
    }

    fn servers_of<'a>(&self, services: impl IntoIterator<Item = &'a Service>) -> Servers {
        services.into_iter().flat_map(|service| servers(&self.node, service)).collect()
    }

    /// Returns how long the kernel was at it.
    fn write(&self, input: String) -> Result<Duration, Error> {
        if input.is_empty() {
            return Ok(Duration::ZERO);
        }
        let writer = self.writer.to_string_lossy();
        let nanoseconds = self.tool.namespace.run(&writer, &["ipvs-restore"], input)?;
        let lost = || Error::Lost { command: format!("{writer} ipvs-restore") };
        nanoseconds.trim().parse().map(Duration::from_nanos).map_err(|_| lost())
    }

    /// Ends those that have had their time; returns the others, and how long the kernel was at it.
    fn terminating(&mut self) -> Result<(Vec<Real>, Duration), Error> {
        let expired: Vec<_> = self
            .terminating
            .extract_if(.., |(since, _)| since.elapsed() > TERMINATES_FOR)
            .map(|(_, real)| real)
            .collect();
        let took = self.write(servers::deletion(&expired))?;
        Ok((self.terminating.iter().map(|(_, real)| *real).collect(), took))
    }

    /// `after`: the servers that the change leads to. Returns how long the kernel was at it.
    fn apply_servers(&mut self, change: Change, after: &Servers) -> Result<Duration, Error> {
        let Change { input, terminating } = change;
        let took = self.write(input)?;
        let now = Instant::now();
        self.terminating.retain(|(_, (server, endpoint))| after.get(server).is_none_or(|to| !to.contains(endpoint)));
        self.terminating.extend(terminating.into_iter().map(|real| (now, real)));
        Ok(took)
    }

    /// What `before` and `after`, two states of one service, make of the sets. An entry that another service has too
    /// (an endpoint on this node) stays.
    fn set_entries(&self, before: Option<&Service>, after: Option<&Service>) -> String {
        let entries = |service: Option<&Service>| service.map(sets::entries).unwrap_or_default();
        let (mut before_entries, after_entries) = (entries(before), entries(after));
        let gone: BTreeSet<_> = before_entries.difference(&after_entries).cloned().collect();
        if before.is_some_and(|service| service.ports.iter().any(|port| port.endpoints.iter().any(|to| to.local))) {
            let others = self.services.all().iter().flat_map(sets::entries);
            let shared: BTreeSet<_> = others.filter(|entry| gone.contains(entry)).collect();
            before_entries.retain(|entry| !shared.contains(entry));
        }
        sets::difference(&before_entries, &after_entries)
    }

    /// The catalog has the new state already.
    fn sync_one(&mut self, family: Family, before: Option<&Service>, after: Option<&Service>) -> Result<(), Error> {
        self.run("ipset", &["restore"], self.set_entries(before, after))?;
        let (old, new) = (self.servers_of(before), self.servers_of(after));
        let (terminating, _) = self.terminating()?;
        self.apply_servers(servers::difference(&old, &new, &terminating), &new)?;
        let cluster_ip = |service: Option<&Service>| service.map(|service| service.cluster_ip);
        self.run("ip", &["-batch", "-"], servers::addresses(cluster_ip(before), cluster_ip(after)))?;
        self.tool.restore(family, rules::restore_input(&self.node, family, self.services.all()))
    }
}

impl Rival for Ipvs {
    fn name(&self) -> &'static str {
        "ipvs"
    }

    fn version(&self) -> Result<String, Error> {
        let namespace = &self.tool.namespace;
        let ipvs = namespace.run("ipvsadm", &["--version"], String::new())?;
        let ipset = namespace.run("ipset", &["--version"], String::new())?;
        Ok(format!("{}, {}, {}", ipvs.trim(), ipset.lines().next().unwrap_or_default(), self.tool.version()?))
    }

    fn is_supported(&self) -> Result<bool, Error> {
        self.tool.namespace.succeeds("ipvsadm", &["--list", "--numeric"])
    }

    fn program(&mut self, services: Vec<Service>) -> Result<(), Error> {
        let mut laps = Laps::start();
        let before = std::mem::replace(&mut self.services, Catalog::new(services));
        laps.end(Way::Decision);
        if !self.tool.namespace.succeeds("ip", &["link", "show", "dev", DEVICE])? {
            self.tool.namespace.run("ip", &["link", "add", DEVICE, "type", "dummy"], String::new())?;
        }
        laps.end(Way::Addresses);
        let families: Vec<_> = self.node.families().collect();
        for family in &families {
            self.tool.ensure_jumps(*family, &rules::JUMPS)?;
        }
        laps.end(Way::Rules);
        for family in &families {
            self.run("ipset", &["restore"], sets::creation(*family))?;
        }
        laps.end(Way::IpSets);
        let entries = |services: &[Service]| services.iter().flat_map(sets::entries).collect();
        let input = sets::difference(&entries(before.all()), &entries(self.services.all()));
        laps.end(Way::Decision);
        self.run("ipset", &["restore"], input)?;
        laps.end(Way::IpSets);
        // The module that has these variables came with the first look at `is_supported`, or comes now.
        self.tool.namespace.run("ipvsadm", &["--list", "--numeric"], String::new())?;
        self.sysctls()?;
        laps.end(Way::Decision);
        let (old, new) = (self.servers_of(before.all()), self.servers_of(self.services.all()));
        laps.end(Way::Decision);
        let (terminating, took) = self.terminating()?;
        laps.split(Way::Netlink, took, Way::Decision);
        let change = servers::difference(&old, &new, &terminating);
        laps.end(Way::Decision);
        let took = self.apply_servers(change, &new)?;
        laps.split(Way::Netlink, took, Way::Decision);
        let wanted: BTreeSet<_> = self.services.all().iter().map(|service| service.cluster_ip).collect();
        let bound: BTreeSet<_> = before.all().iter().map(|service| service.cluster_ip).collect();
        let unbind = bound.difference(&wanted).map(|address| servers::addresses(Some(*address), None));
        let bind = wanted.difference(&bound).map(|address| servers::addresses(None, Some(*address)));
        let input = unbind.chain(bind).collect();
        laps.end(Way::Decision);
        self.run("ip", &["-batch", "-"], input)?;
        laps.end(Way::Addresses);
        for family in families {
            self.tool.restore(family, rules::restore_input(&self.node, family, self.services.all()))?;
        }
        laps.end(Way::Rules);
        self.parts = laps.parts();
        Ok(())
    }

    fn parts(&self) -> &[Part] {
        &self.parts
    }

    fn change(&mut self, service: Service) -> Result<(), Error> {
        let before = self.services.put(service.clone());
        self.sync_one(service.family(), before.as_ref(), Some(&service))
    }

    fn remove(&mut self, key: &ServiceKey) -> Result<(), Error> {
        let Some(before) = self.services.take(key) else { return Ok(()) };
        self.sync_one(key.family, Some(&before), None)
    }

    fn cleanup(&mut self) -> Result<(), Error> {
        self.services = Catalog::default();
        self.terminating.clear();
        let namespace = &self.tool.namespace;
        if self.is_supported()? {
            namespace.run("ipvsadm", &["--clear"], String::new())?;
        }
        if namespace.succeeds("ip", &["link", "show", "dev", DEVICE])? {
            namespace.run("ip", &["link", "del", DEVICE], String::new())?;
        }
        for family in [Family::V4, Family::V6] {
            self.tool.remove_all(family)?;
            // After the rules that match on them.
            for set in sets::names(family) {
                let _gone_already = namespace.succeeds("ipset", &["destroy", &set])?;
            }
        }
        Ok(())
    }
}
