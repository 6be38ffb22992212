//! kube-proxy's iptables mode, over either back end.
//!
//! `rules` writes the input of one sync, `names` the chains' names, `jumps` the way in from the built-in chains;
//! `saved` reads what is there; `tool` runs the programs.

pub mod jumps;
mod names;
pub mod rules;
pub mod saved;
pub(super) mod tool;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

pub use tool::Backend;

use self::{
    jumps::JUMPS,
    rules::{Scope, chains_of, is_large, restore_input},
    tool::Tool,
};
use super::{
    Rival,
    catalog::Catalog,
    error::Error,
    namespace::Namespace,
    service::{Family, Node, Service, ServiceKey},
};

/// `--iptables-sync-period`: how often a large cluster looks for stale chains.
const SYNC_PERIOD: Duration = Duration::from_secs(30);

/// kube-proxy `--proxy-mode=iptables`.
#[derive(Debug)]
pub struct Iptables {
    tool: Tool,
    node: Node,
    services: Catalog,
    last_cleanup: Option<Instant>,
}

impl Iptables {
    #[must_use]
    pub fn new(namespace: Namespace, backend: Backend, node: Node) -> Self {
        Self { tool: Tool { backend, namespace }, node, services: Catalog::default(), last_cleanup: None }
    }

    fn sync(&mut self, family: Family, scope: Scope<'_>, clean: bool) -> Result<(), Error> {
        let stale = if clean { self.stale_chains(family)? } else { Vec::new() };
        let input = restore_input(&self.node, family, self.services.all(), scope, &stale);
        self.tool.restore(family, input)
    }

    fn stale_chains(&self, family: Family) -> Result<Vec<String>, Error> {
        let ours = self.services.all().iter().filter(|service| service.family() == family);
        let wanted: HashSet<_> = ours.flat_map(chains_of).collect();
        Ok(saved::stale_chains(&self.tool.save(family, "nat")?, &wanted))
    }

    /// `iptables-save` takes seconds where rules are many, so large clusters do without most of the time.
    fn cleanup_is_due(&mut self) -> bool {
        let due = !is_large(self.services.all()) || self.last_cleanup.is_none_or(|last| last.elapsed() > SYNC_PERIOD);
        if due {
            self.last_cleanup = Some(Instant::now());
        }
        due
    }

    fn partial_sync(&mut self, key: &ServiceKey) -> Result<(), Error> {
        let clean = self.cleanup_is_due();
        self.sync(key.family, Scope::Only(std::slice::from_ref(key)), clean)
    }
}

impl Rival for Iptables {
    fn name(&self) -> &'static str {
        match self.tool.backend {
            Backend::Legacy => "iptables-legacy",
            Backend::Nft => "iptables-nft",
        }
    }

    fn version(&self) -> Result<String, Error> {
        self.tool.version()
    }

    fn program(&mut self, services: Vec<Service>) -> Result<(), Error> {
        self.services = Catalog::new(services);
        let clean = self.cleanup_is_due();
        let families: Vec<_> = self.node.families().collect();
        for family in families {
            if family == Family::V4 {
                self.tool.namespace.sysctl("net/ipv4/conf/all/route_localnet", "1")?;
            }
            self.tool.ensure_jumps(family, &JUMPS)?;
            self.sync(family, Scope::Everything, clean)?;
        }
        Ok(())
    }

    fn change(&mut self, service: Service) -> Result<(), Error> {
        let key = service.key();
        self.services.put(service);
        self.partial_sync(&key)
    }

    fn remove(&mut self, key: &ServiceKey) -> Result<(), Error> {
        if self.services.take(key).is_some() { self.partial_sync(key) } else { Ok(()) }
    }

    fn cleanup(&mut self) -> Result<(), Error> {
        self.services = Catalog::default();
        [Family::V4, Family::V6].into_iter().try_for_each(|family| self.tool.remove_all(family))
    }
}
