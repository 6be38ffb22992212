//! `run`: the agent's options.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::Result;
use clap::{
    Args, ValueEnum,
    builder::{NonEmptyStringValueParser, RangedU64ValueParser},
};
use ipnet::IpNet;
use millrace_common::snat;

use super::{
    Place,
    environment::{item, said},
};
use crate::{
    app::{self, Config},
    datapath::{HostRoutingMode, Limits, SnatPorts, TcMode, XdpMode},
    lb::NodePortAddresses,
    model::scope,
    watch::Source,
};

/// Runs the agent on this node, until SIGTERM or SIGINT
///
/// Programs and maps stay in place when it ends: services go on working, and the next start takes over without breaking
/// a connection. Runs as root, or with CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN.
#[derive(Args)]
pub(super) struct Options {
    /// This node's name, as its Node object has it: decides which endpoints are local
    #[arg(long, env = "MILLRACE_NODE_NAME", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    node_name: String,
    /// This node's zone, for topology hints; by default from the Node object, where the source has one
    #[arg(long, env = "MILLRACE_ZONE", value_name = "ZONE")]
    zone: Option<String>,
    /// An address of this node, one per family: clients from outside have it where they are sent on to a backend, and to
    /// services with session affinity the host is the client with this address [default: the Node object's InternalIPs, as
    /// far as the node has them, else the source addresses of the default routes, as they are at the time]
    #[arg(long, env = "MILLRACE_NODE_IP", value_name = "IP", value_delimiter = ',', value_parser = node_ip)]
    node_ip: Vec<Option<IpAddr>>,
    /// Where Services, EndpointSlices and this node's Pods come from: `kube` (the API server, by the kubeconfig that
    /// KUBECONFIG names, else the pod's service account, else ~/.kube/config) or `dir:PATH` (a watched directory of ordinary
    /// manifests: `*.yaml`, `*.yml` and `*.json`, in sub-directories too). Of two Services that name one frontend the older
    /// has it; where metadata.creationTimestamp does not tell, the first by name
    #[arg(long, env = "MILLRACE_SOURCE", value_name = "kube|dir:PATH")]
    source: Source,
    /// URL of the API server. It is reached directly, never through a service [default: CLUSTER_ENDPOINT in the
    /// environment, else as the kubeconfig or the pod's service account has it]
    #[arg(long, env = "MILLRACE_KUBE_API", value_name = "URL")]
    kube_api: Option<String>,
    /// Serve Services and EndpointSlices whose label `service.kubernetes.io/service-proxy-name` has this name, besides those
    /// without the label [default: only those without it]
    #[arg(long, env = "MILLRACE_SERVICE_PROXY_NAME", value_name = "NAME", value_parser = proxy_name)]
    service_proxy_name: Option<ProxyName>,
    #[command(flatten)]
    place: Place,
    /// The cgroup v2 directory whose processes use services through the socket hooks, and below which the kubelet keeps
    /// its pods [default: the root of the hierarchy in the mount table]
    #[arg(long, env = "MILLRACE_CGROUP_ROOT", value_name = "PATH")]
    cgroup_root: Option<PathBuf>,
    /// A range that ClusterIPs are taken from: traffic to an address in it that no service has is dropped, not routed.
    /// ServiceCIDR objects are used too
    #[arg(long, env = "MILLRACE_SERVICE_CIDR", value_name = "CIDR", value_delimiter = ',', value_parser = service_cidr)]
    service_cidr: Vec<Option<IpNet>>,
    /// A device that leads out of the node: clients behind it reach node ports, load balancer VIPs and external IPs;
    /// `none`: no device does. Naming one names all: also one behind which endpoints are, on the link itself [default: those
    /// of default routes, of routes by way of a router and of the node's own addresses]
    #[arg(long, env = "MILLRACE_DEVICE", value_name = "IF", value_delimiter = ',', value_parser = item::<String>)]
    device: Vec<Option<String>>,
    /// The addresses of the node on which node ports are served: ranges, or `primary` for the node's InternalIPs (or
    /// --node-ip). Never loopback and link-local ones [default: all]
    #[arg(long, env = "MILLRACE_NODEPORT_ADDRESSES", value_name = "CIDR|primary", value_delimiter = ',', value_parser = node_port_address)]
    nodeport_addresses: Vec<Option<NodePortAddress>>,
    /// Ports of the node's address from which clients outside are sent on to backends. Nothing else may use them to
    /// connect from: keep them clear of the node ports and of net.ipv4.ip_local_port_range
    #[arg(long, env = "MILLRACE_SNAT_PORTS", value_name = "FIRST-LAST", default_value = "1024-29999", value_parser = snat_ports)]
    snat_ports: SnatPorts,
    /// Devices whose names begin like this are the host side of pods' veths; `none` or an empty argument: none
    #[arg(long, env = "MILLRACE_VETH_PREFIX", value_name = "PREFIX", default_value = "eni")]
    veth_prefix: String,
    /// Who is translated when a TCP connection is made, so that none of its packets is: everybody (`on`), or only processes of
    /// the host (`host-only`: pods are translated per packet, for service meshes that must see the ClusterIP). With `on`, the
    /// annotation `millrace.io/socket-lb: "off"` of a pod, or the label of its namespace, chooses single pods for that
    #[arg(long, env = "MILLRACE_SOCKET_LB", value_enum, default_value_t = SocketLb::On)]
    socket_lb: SocketLb,
    /// Translate pods' UDP in the socket hooks too, for nodes whose pod devices are not ours. Per-packet translation
    /// moves flows off dead endpoints on the same socket, this cannot
    #[arg(long, env = "MILLRACE_SOCKET_LB_UDP", value_enum, default_value_t = Switch::Off)]
    socket_lb_udp: Switch,
    /// How programs are attached to devices: TCX where the kernel has it, else the clsact qdisc
    #[arg(long, env = "MILLRACE_TC", value_enum, default_value_t = Tc::Auto)]
    tc: Tc,
    /// Serve clients outside whose backend is on another node before the kernel makes packets of what they send: in the
    /// driver (`native`), or in the kernel's stack (`generic`). What is out of the ordinary is left to tc, and everything
    /// where a device refuses. A device that carries VLANs must leave their tags in the frame (`ethtool -K DEV rxvlan off`)
    #[arg(long, env = "MILLRACE_XDP", value_enum, default_value_t = ExpressPath::Off)]
    xdp: ExpressPath,
    /// Hand packets from pod to pod of this node past its stack, by its routes: where nothing else looks at what the node
    /// forwards (`auto`: no chain of a firewall, no queue or program on the pod's device), whatever a firewall's chains
    /// would say (`always`), or never
    #[arg(long, env = "MILLRACE_HOST_ROUTING", value_enum, default_value_t = HostRoute::Auto)]
    host_routing: HostRoute,
    /// Serve /healthz and /livez on this address, 0.0.0.0 being all of both families; `none`: nowhere
    #[arg(long, env = "MILLRACE_HEALTH_ADDR", value_name = "A", default_value = "0.0.0.0:10256", value_parser = listen)]
    health_addr: Listen,
    /// Serve /metrics and /proxyMode on this address, 0.0.0.0 being all of both families; `none`: nowhere
    #[arg(long, env = "MILLRACE_METRICS_ADDR", value_name = "A", default_value = "127.0.0.1:10249", value_parser = listen)]
    metrics_addr: Listen,
    /// Seconds that a start waits for the source's first complete list before it programs what it has heard so far.
    /// Until that list nothing is removed from maps that an earlier agent left
    #[arg(long, env = "MILLRACE_SYNC_TIMEOUT", value_name = "SECONDS", default_value_t = 30,
        value_parser = RangedU64ValueParser::<u64>::new().range(..=86_400))]
    sync_timeout: u64,
    #[command(flatten, next_help_heading = "Sizes of the maps (rounded up to powers of two)")]
    sizes: Sizes,
}

/// Another size at a restart keeps all contents; one that cannot hold them is refused.
#[derive(Args)]
struct Sizes {
    /// Service ports, counted once per address family
    #[arg(long, env = "MILLRACE_MAX_SERVICES", value_name = "N", default_value_t = Limits::default().services, value_parser = entries())]
    max_services: u32,
    /// Frontends per family: addresses and ports that clients name, and one mark per address [default: twice the
    /// services]
    #[arg(long, env = "MILLRACE_MAX_FRONTENDS", value_name = "N", value_parser = entries())]
    max_frontends: Option<u32>,
    /// Endpoints, counted once per service port
    #[arg(long, env = "MILLRACE_MAX_BACKENDS", value_name = "N", default_value_t = Limits::default().backends, value_parser = entries())]
    max_backends: u32,
    /// Places in endpoint sets per family; a service whose policy is Local needs two sets [default: as backends]
    #[arg(long, env = "MILLRACE_MAX_SLOTS", value_name = "N", value_parser = entries())]
    max_slots: Option<u32>,
    /// Source ranges of load balancers per family: those of a Service count once for each of its ports. VIPs of a Service
    /// whose ranges do not fit let in nobody new
    #[arg(long, env = "MILLRACE_MAX_SOURCE_RANGES", value_name = "N", default_value_t = Limits::default().source_ranges, value_parser = entries())]
    max_source_ranges: u32,
    /// Entries for tracked flows per family, two for each flow
    #[arg(long, env = "MILLRACE_MAX_FLOWS", value_name = "N", default_value_t = Limits::default().flows, value_parser = entries())]
    max_flows: u32,
    /// Clients per family that session affinity remembers
    #[arg(long, env = "MILLRACE_MAX_AFFINITY", value_name = "N", default_value_t = Limits::default().affinity, value_parser = entries())]
    max_affinity: u32,
    /// TCP connections of both families, translated by the socket hooks and open at a time, whose getpeername() names
    /// the service; beyond them the oldest show their backend
    #[arg(long, env = "MILLRACE_MAX_SOCKETS", value_name = "N", default_value_t = Limits::default().sockets, value_parser = entries())]
    max_sockets: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SocketLb {
    On,
    HostOnly,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
enum Tc {
    Auto,
    Tcx,
    Clsact,
}

#[derive(Clone, Copy, ValueEnum)]
enum HostRoute {
    Auto,
    Always,
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
enum ExpressPath {
    Off,
    Generic,
    Native,
}

/// The largest map is far beyond what the API server allows in a cluster, and within what the kernel can make.
const MAX_ENTRIES: u64 = 1 << 24;

fn entries() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=MAX_ENTRIES)
}

/// A label's value, or none.
#[derive(Clone)]
struct ProxyName(Option<String>);

/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>
fn proxy_name(text: &str) -> Result<ProxyName, String> {
    let name = said(text);
    let is_label = |name: &String| {
        let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        name.len() <= 63 && name.bytes().all(inner) && ends(name.bytes().next()) && ends(name.bytes().last())
    };
    if name.as_ref().is_none_or(is_label) {
        Ok(ProxyName(name))
    } else {
        Err("no label can have this value: write up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
            .to_owned())
    }
}

/// An address to listen on, or none.
#[derive(Clone, Copy)]
struct Listen(Option<SocketAddr>);

fn listen(text: &str) -> Result<Listen, std::net::AddrParseError> {
    match text.trim() {
        "" | "none" => Ok(Listen(None)),
        address => address.parse().map(|address| Listen(Some(address))),
    }
}

/// An address that others can send to.
fn node_ip(text: &str) -> Result<Option<IpAddr>, String> {
    let address = item::<IpAddr>(text).map_err(|_| "write an address such as 10.0.0.1 or fd00::1".to_owned())?;
    match address.map(|ip| ip.to_canonical()) {
        Some(ip) if let Some(scope) = scope(ip) => Err(format!("this is {scope}: write one that other nodes send to")),
        address => Ok(address),
    }
}

/// A range that is not everything there is.
fn service_cidr(text: &str) -> Result<Option<IpNet>, String> {
    let range = item::<IpNet>(text).map_err(|_| "write a range such as 10.96.0.0/12".to_owned())?;
    match range {
        Some(range) if range.prefix_len() == 0 => {
            Err("all addresses are no range of Services: traffic to whatever is none \
             would be dropped; write the cluster's own, such as 10.96.0.0/12"
                .to_owned())
        }
        range => Ok(range),
    }
}

/// A word of `--nodeport-addresses`.
#[derive(Clone, Copy)]
enum NodePortAddress {
    Primary,
    Range(IpNet),
}

fn node_port_address(text: &str) -> Result<Option<NodePortAddress>, String> {
    match text.trim() {
        "" => Ok(None),
        "primary" => Ok(Some(NodePortAddress::Primary)),
        range => range
            .parse()
            .map(|range| Some(NodePortAddress::Range(range)))
            .map_err(|_| "write a range such as 10.0.0.0/8, or `primary`".to_owned()),
    }
}

fn node_port_addresses(words: &[Option<NodePortAddress>]) -> NodePortAddresses {
    let mut addresses = NodePortAddresses::default();
    for word in words.iter().flatten() {
        match word {
            NodePortAddress::Primary => addresses.primary = true,
            NodePortAddress::Range(range) => addresses.ranges.push(*range),
        }
    }
    addresses
}

fn snat_ports(text: &str) -> Result<SnatPorts, String> {
    let ports = text.split_once('-').and_then(|(first, last)| {
        Some(SnatPorts { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? })
    });
    ports
        .filter(|ports| ports.first > 0 && u32::from(ports.last) >= u32::from(ports.first) + snat::PROBES - 1)
        .ok_or_else(|| format!("write the first and the last port, {} ports at least, as in 1024-29999", snat::PROBES))
}

impl Sizes {
    fn limits(&self) -> Limits {
        Limits {
            services: self.max_services,
            frontends: self.max_frontends.unwrap_or(self.max_services * 2),
            backends: self.max_backends,
            slots: self.max_slots.unwrap_or(self.max_backends),
            source_ranges: self.max_source_ranges,
            flows: self.max_flows,
            affinity: self.max_affinity,
            sockets: self.max_sockets,
        }
    }
}

impl Options {
    fn config(self) -> Config {
        Config {
            limits: self.sizes.limits(),
            node: self.node_name,
            zone: self.zone.as_deref().and_then(said),
            node_ips: self.node_ip.into_iter().flatten().collect(),
            source: self.source,
            kube_api: self.kube_api.as_deref().and_then(said),
            proxy_name: self.service_proxy_name.and_then(|name| name.0),
            pins: self.place.pins(),
            cgroup_root: self.cgroup_root,
            service_cidrs: self.service_cidr.into_iter().flatten().collect(),
            devices: self.device.into_iter().flatten().collect(),
            node_ports: node_port_addresses(&self.nodeport_addresses),
            snat_ports: self.snat_ports,
            veth_prefix: if self.veth_prefix == "none" { String::new() } else { self.veth_prefix },
            socket_lb: self.socket_lb == SocketLb::On,
            socket_lb_udp: self.socket_lb_udp == Switch::On,
            tc: match self.tc {
                Tc::Auto => TcMode::Auto,
                Tc::Tcx => TcMode::Tcx,
                Tc::Clsact => TcMode::Clsact,
            },
            xdp: match self.xdp {
                ExpressPath::Off => None,
                ExpressPath::Generic => Some(XdpMode::Generic),
                ExpressPath::Native => Some(XdpMode::Native),
            },
            host_routing: match self.host_routing {
                HostRoute::Auto => HostRoutingMode::Auto,
                HostRoute::Always => HostRoutingMode::Always,
                HostRoute::Off => HostRoutingMode::Off,
            },
            health_addr: self.health_addr.0,
            metrics_addr: self.metrics_addr.0,
            sync_timeout: Duration::from_secs(self.sync_timeout),
        }
    }
}

pub(super) fn run(options: Options) -> Result<()> {
    app::run(&options.config())
}
