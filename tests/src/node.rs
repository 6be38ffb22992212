//! A node: a network namespace with an uplink and pods, a cgroup and a bpf file system of its own.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context, Result};
use millrace_agent::datapath::{Pins, verdicts};
use millrace_common::verdict::Verdict;

use crate::{
    address::{in_family, twin},
    bpffs::Bpffs,
    netns::{Netns, unique},
    place::{Cgroup, Place},
    pod::Pod,
};

/// Dropping it ends its processes, agent included, then its pods, pins and devices.
#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub zone: String,
    pub v4: Ipv4Addr,
    // Order of the fields: processes first, then what they use.
    host: Cgroup,
    pods: BTreeMap<String, Pod>,
    /// `kubepods/burstable`: where a kubelet that uses no systemd puts most pods.
    kubepods: [Cgroup; 2],
    pub cgroup: Cgroup,
    pub bpffs: Bpffs,
    pub netns: Netns,
}

impl Node {
    /// A node without a network; see [`crate::network::Network`].
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn create(name: &str, zone: &str, v4: Ipv4Addr) -> Result<Self> {
        let netns = Netns::create(name)?;
        netns.sysctl(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
        let cgroup = Cgroup::create(&unique(name))?;
        let host = cgroup.child("host")?;
        let kubepods = cgroup.child("kubepods")?;
        let kubepods = [kubepods.child("burstable")?, kubepods];
        let bpffs = Bpffs::mount(name)?;
        let (name, zone) = (name.to_owned(), zone.to_owned());
        Ok(Self { name, zone, v4, host, pods: BTreeMap::new(), kubepods, cgroup, bpffs, netns })
    }

    /// The node's address in one family.
    #[must_use]
    pub fn address(&self, v6: bool) -> IpAddr {
        in_family(self.v4, v6)
    }

    /// How often the programs of its agent have come to this.
    ///
    /// # Errors
    /// No agent has run here.
    pub fn count(&self, wanted: Verdict) -> Result<u64> {
        let found = verdicts(&Pins::at(&self.bpffs.path))?.into_iter().find(|(verdict, _)| *verdict == wanted);
        Ok(found.with_context(|| format!("{} is not counted", wanted.name()))?.1)
    }

    /// `--node-ip`, once for each family.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4.into(), twin(self.v4).into()]
    }

    /// Where the node's own processes live, such as the agent and clients in the host's namespace.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { netns: self.netns.handle(), cgroup: self.host.path.clone() }
    }

    /// # Errors
    /// What iproute2 or the kernel says.
    pub fn add_pod(&mut self, name: &str, v4: Ipv4Addr) -> Result<&Pod> {
        let pod = Pod::create(name, v4, &self.netns, &self.kubepods[0])
            .with_context(|| format!("cannot wire pod {name} to node {}", self.name))?;
        Ok(self.pods.entry(name.to_owned()).insert_entry(pod).into_mut())
    }

    /// Ends the pod's processes and takes it off the node.
    pub fn remove_pod(&mut self, name: &str) {
        let Some(pod) = self.pods.remove(name) else { return };
        let device = pod.device.clone();
        drop(pod);
        // The kernel takes namespaces apart when it comes to it, and the veth would be in the way of the next pod with
        // this address. No error: it has come to it already.
        drop(self.netns.ip(&[format!("link del {device}")]));
    }

    /// # Errors
    /// If there is no such pod here.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        self.pods.get(name).with_context(|| format!("node {} has no pod {name}", self.name))
    }

    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }
}
