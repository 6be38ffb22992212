//! kube-proxy's nftables mode: verdict maps, so that a packet's way does not depend on the number of services.
//!
//! `foundation` is the table without services, `content` what one service adds, `transaction` what a sync sends,
//! `names` the chains' names. kube-proxy also lists all chains and sets at every sync, in order to find stale ones;
//! here they are known, which favours this rival.

mod content;
mod foundation;
mod names;
pub mod transaction;

use std::time::{Duration, Instant};

use self::{
    foundation::ip,
    transaction::{Sync, deletion, full, partial},
};
use super::{
    Rival,
    catalog::Catalog,
    error::Error,
    namespace::Namespace,
    service::{Family, Node, Service, ServiceKey},
};

/// How long a chain stays empty before it is deleted.
const STALE_FOR: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Stale {
    family: Family,
    since: Instant,
    chain: String,
}

/// kube-proxy `--proxy-mode=nftables`.
#[derive(Debug)]
pub struct Nftables {
    namespace: Namespace,
    node: Node,
    services: Catalog,
    stale: Vec<Stale>,
}

impl Nftables {
    #[must_use]
    pub fn new(namespace: Namespace, node: Node) -> Self {
        Self { namespace, node, services: Catalog::default(), stale: Vec::new() }
    }

    fn nft(&self, transaction: String) -> Result<(), Error> {
        self.namespace.run("nft", &["-f", "-"], transaction).map(drop)
    }

    fn delete_stale(&mut self, family: Family) -> Result<(), Error> {
        let due = |stale: &mut Stale| stale.family == family && stale.since.elapsed() > STALE_FOR;
        let chains: Vec<_> = self.stale.extract_if(.., due).map(|stale| stale.chain).collect();
        if chains.is_empty() { Ok(()) } else { self.nft(deletion(family, &chains)) }
    }

    fn apply(&mut self, family: Family, sync: Sync) -> Result<(), Error> {
        self.nft(sync.transaction)?;
        self.stale.retain(|stale| stale.family != family || !sync.filled.contains(&stale.chain));
        let since = Instant::now();
        self.stale.extend(sync.stale.into_iter().map(|chain| Stale { family, since, chain }));
        Ok(())
    }
}

impl Rival for Nftables {
    fn name(&self) -> &'static str {
        "nftables"
    }

    fn version(&self) -> Result<String, Error> {
        Ok(self.namespace.run("nft", &["--version"], String::new())?.trim().to_owned())
    }

    fn program(&mut self, services: Vec<Service>) -> Result<(), Error> {
        let before = std::mem::replace(&mut self.services, Catalog::new(services));
        let families: Vec<_> = self.node.families().collect();
        for family in families {
            self.delete_stale(family)?;
            let sync = full(&self.node, family, before.all(), self.services.all());
            self.apply(family, sync)?;
        }
        Ok(())
    }

    fn change(&mut self, service: Service) -> Result<(), Error> {
        let family = service.family();
        self.delete_stale(family)?;
        let before = self.services.put(service.clone());
        let sync = partial(&self.node, family, before.as_ref(), Some(&service));
        self.apply(family, sync)
    }

    fn remove(&mut self, key: &ServiceKey) -> Result<(), Error> {
        let Some(before) = self.services.take(key) else { return Ok(()) };
        self.delete_stale(key.family)?;
        let sync = partial(&self.node, key.family, Some(&before), None);
        self.apply(key.family, sync)
    }

    fn cleanup(&mut self) -> Result<(), Error> {
        self.services = Catalog::default();
        self.stale.clear();
        for ip in [Family::V4, Family::V6].map(ip) {
            // Added first: deleting what is not there is an error.
            self.nft(format!("add table {ip} kube-proxy\ndelete table {ip} kube-proxy\n"))?;
        }
        Ok(())
    }
}
