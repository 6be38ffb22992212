//! What `run` was told.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Result, bail};
use ipnet::IpNet;

use crate::{
    datapath::{HostRoutingMode, Limits, Pins, SnatPorts, TcMode, XdpMode, devices::Selection, host},
    lb::{Assigned, NodeInfo, NodePortAddresses, Origins, OwnAddresses},
    watch::Source,
};

/// See the options of `run` on the command line: each field is one of them.
#[derive(Clone, Debug)]
pub struct Config {
    pub node: String,
    pub zone: Option<String>,
    pub node_ips: Vec<IpAddr>,
    pub source: Source,
    pub kube_api: Option<String>,
    pub proxy_name: Option<String>,
    pub pins: Pins,
    pub cgroup_root: Option<PathBuf>,
    pub service_cidrs: Vec<IpNet>,
    pub devices: Vec<String>,
    pub node_ports: NodePortAddresses,
    pub snat_ports: SnatPorts,
    pub veth_prefix: String,
    pub socket_lb: bool,
    pub socket_lb_udp: bool,
    pub tc: TcMode,
    pub xdp: Option<XdpMode>,
    pub host_routing: HostRoutingMode,
    pub health_addr: Option<SocketAddr>,
    pub metrics_addr: Option<SocketAddr>,
    pub limits: Limits,
    pub sync_timeout: Duration,
}

impl Config {
    /// What each option alone allows, and all together do not. Touches nothing.
    ///
    /// # Errors
    /// Names the options and what to write.
    pub(super) fn check(&self) -> Result<()> {
        for v6 in [false, true] {
            let mut of_family = self.node_ips.iter().filter(|ip| ip.is_ipv6() == v6);
            if let (Some(one), Some(another)) = (of_family.next(), of_family.next()) {
                bail!("--node-ip names both {one} and {another}: name one address of each family");
            }
        }
        let own = self.own_addresses();
        for address in own.v4.into_iter().chain(own.v6) {
            if let Some(range) = self.service_cidrs.iter().find(|range| range.contains(&address)) {
                bail!(
                    "--service-cidr {range} holds {address}, the node's own, which its pods could not reach any more: name \
                     the range that the API server takes ClusterIPs from, or another address with --node-ip"
                );
            }
        }
        Ok(())
    }

    /// As whom the node speaks, as far as the operator and its routes say: all that is known before anything is listened to.
    pub(super) fn own_addresses(&self) -> OwnAddresses {
        let routed = host::sources();
        let assigned = Assigned { all: routed.iter().copied().collect(), routed, uplinks: Vec::new() };
        assigned.choose(Origins { named: &self.node_ips, ..Origins::default() })
    }

    pub(super) fn selection(&self) -> Selection {
        Selection { veth_prefix: self.veth_prefix.clone(), uplinks: self.devices.iter().cloned().collect() }
    }

    pub(super) fn node(&self, addresses: BTreeSet<IpAddr>) -> NodeInfo {
        NodeInfo {
            name: self.node.as_str().into(),
            zone: self.zone.as_deref().map(Into::into),
            addresses,
            primary: self.node_ips.clone(),
            stands_alone: matches!(self.source, Source::Directory(_)),
            node_ports: self.node_ports.clone(),
        }
    }
}
