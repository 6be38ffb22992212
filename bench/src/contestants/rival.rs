//! A rival as a contestant: told of the services as kube-proxy would be, its tools bounded in time, its kernel memory
//! counted.

use std::{net::IpAddr, time::Instant};

use anyhow::Result;

use super::{Contestant, Memory, Programmed, Tooling, kernel_memory::Account};
use crate::{
    cluster::{Cluster, told},
    rivals::{self, Backend, Iptables, Ipvs, Namespace, Nftables, Tools},
    topology::{Topology, own_binary},
};

struct Rival {
    rival: Box<dyn rivals::Rival>,
    cluster: Cluster,
    account: Option<Account>,
}

type Found = Option<Box<dyn Contestant>>;

pub(super) fn iptables(backend: Backend, topology: &Topology, cluster: Cluster, tooling: &Tooling) -> Result<Found> {
    found(topology, cluster, tooling, |namespace, node| Box::new(Iptables::new(namespace, backend, node)))
}

pub(super) fn nftables(topology: &Topology, cluster: Cluster, tooling: &Tooling) -> Result<Found> {
    found(topology, cluster, tooling, |namespace, node| Box::new(Nftables::new(namespace, node)))
}

/// kube-proxy's container has the nft back end for the rules around it.
pub(super) fn ipvs(topology: &Topology, cluster: Cluster, tooling: &Tooling) -> Result<Found> {
    let writer = own_binary()?;
    found(topology, cluster, tooling, |namespace, node| Box::new(Ipvs::new(namespace, Backend::Nft, node, writer)))
}

fn found(
    topology: &Topology,
    cluster: Cluster,
    tooling: &Tooling,
    new: impl FnOnce(Namespace, rivals::Node) -> Box<dyn rivals::Rival>,
) -> Result<Found> {
    let node = topology.node()?;
    let account = Account::open();
    let mut namespace = Namespace::open(&node.netns.name)?;
    namespace.limit = Some(tooling.limit);
    namespace.tools = tooling.release.as_deref().map(Tools::of_release).transpose()?;
    namespace.account = account.as_ref().map(Account::entrance);
    let rival = new(namespace, told::node(&cluster, &node.addresses()));
    Ok(if rival.is_supported()? { Some(Box::new(Rival { rival, cluster, account })) } else { None })
}

impl Contestant for Rival {
    fn version(&self) -> Result<Option<String>> {
        Ok(Some(self.rival.version()?))
    }

    fn program(&mut self) -> Result<Programmed> {
        let services = told::services(&self.cluster);
        let start = Instant::now();
        self.rival.program(services)?;
        Ok(Programmed { took: start.elapsed(), start: None, parts: self.rival.parts().to_vec() })
    }

    fn replace(&mut self, i: u32, endpoints: &[IpAddr]) -> Result<()> {
        let family = self.cluster.families.each()[0];
        Ok(self.rival.change(told::service(&self.cluster, i, family, endpoints))?)
    }

    /// A change returns when the tools have ended.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        Ok(self.rival.cleanup()?)
    }

    fn memory(&self) -> Result<Memory> {
        Ok(Memory { kernel: self.account.as_ref().and_then(Account::mib), ..Memory::default() })
    }
}
