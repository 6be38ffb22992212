//! What `run` was told.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

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
