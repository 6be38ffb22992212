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
    datapath::{HostRoutingMode, Limits, Pins, SnatPorts, TcMode, XdpMode, devices::Selection, host::own_addresses},
    lb::{NodeInfo, NodePortAddresses},
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
        for address in own_addresses(&self.node_ips) {
            if let Some(range) = self.service_cidrs.iter().find(|range| range.contains(&address)) {
                bail!(
                    "--service-cidr {range} holds {address}, the node's own, which its pods could not reach any more: name \
                     the range that the API server takes ClusterIPs from, or another address with --node-ip"
                );
            }
        }
        Ok(())
    }

    pub(super) fn selection(&self) -> Selection {
        Selection { veth_prefix: self.veth_prefix.clone(), uplinks: self.devices.iter().cloned().collect() }
    }

    pub(super) fn node(&self, addresses: BTreeSet<IpAddr>) -> NodeInfo {
        // Without a Node object nobody else would say.
        let primary = match self.source {
            Source::Directory(_) => own_addresses(&self.node_ips),
            Source::Kube => self.node_ips.clone(),
        };
        NodeInfo {
            name: self.node.as_str().into(),
            zone: self.zone.as_deref().map(Into::into),
            addresses,
            primary,
            node_ports: self.node_ports.clone(),
        }
    }
}
