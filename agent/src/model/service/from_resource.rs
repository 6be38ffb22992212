//! Reads a Service as Kubernetes writes it.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{self, ServiceSpec};

use super::{Algorithm, Policy, Protocol, Service, ServiceKey, ServicePort};
use crate::model::{
    Malformed, Parsed,
    address::{port, routable, sift},
    ours::{checked, is_ours, namespace_and_name},
};

/// How endpoints are chosen: an [`Algorithm`] in small letters.
const ALGORITHM: &str = "millrace.io/algorithm";
/// `DefaultClientIPServiceAffinitySeconds` of the API.
const AFFINITY_SECONDS: i32 = 10_800;
/// The API refuses longer ones.
const MAX_AFFINITY_SECONDS: i32 = 86_400;
/// RFC 6335, 5.1.
const PORT_NAME_BYTES: usize = 15;

impl Service {
    /// `None`: not ours to serve (another proxy's, headless, without a ClusterIP, ExternalName).
    ///
    /// # Errors
    /// The field without which nothing of the Service can be served. Fields whose loss leaves a Service that still
    /// works are left out and listed in [`Parsed::problems`].
    pub fn from_resource(resource: &v1::Service, proxy_name: Option<&str>) -> Result<Option<Parsed<Self>>, Malformed> {
        let metadata = &resource.metadata;
        let Some(spec) = &resource.spec else {
            return Err(Malformed::new("spec", "is missing; a Service needs clusterIP and ports"));
        };
        let cluster_ips = cluster_ips(spec);
        if !is_ours(metadata.labels.as_ref(), proxy_name)
            || spec.type_.as_deref() == Some("ExternalName")
            || cluster_ips.first().is_none_or(|ip| ip.is_empty() || *ip == "None")
        {
            return Ok(None);
        }
        let (namespace, name) = namespace_and_name(metadata.namespace.as_deref(), metadata.name.as_deref())?;
        let mut problems = Vec::new();
        let cluster_ips = addresses("spec.clusterIPs", cluster_ips, &mut problems);
        if cluster_ips.is_empty() {
            return Err(problems.swap_remove(0));
        }
        let ports = ports(spec, &mut problems)?;
        let source_ranges = source_ranges(spec, &mut problems);
        let load_balancer_vips = match &source_ranges {
            Some(_) => addresses("status.loadBalancer.ingress", vips(resource), &mut problems),
            // Every entry was wrong: to serve the address anyway would open it to all.
            None => Box::default(),
        };
        let value = Self {
            key: ServiceKey::new(namespace, name),
            created: metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            cluster_ips,
            external_ips: addresses(
                "spec.externalIPs",
                spec.external_ips.iter().flatten().map(String::as_str),
                &mut problems,
            ),
            load_balancer_vips,
            source_ranges: source_ranges.unwrap_or_default(),
            ports: ports.into(),
            internal_policy: policy(
                "spec.internalTrafficPolicy",
                spec.internal_traffic_policy.as_deref(),
                &mut problems,
            ),
            external_policy: policy(
                "spec.externalTrafficPolicy",
                spec.external_traffic_policy.as_deref(),
                &mut problems,
            ),
            algorithm: algorithm(resource, &mut problems),
            affinity_seconds: affinity_seconds(spec, &mut problems),
            health_check_port: health_check_port(spec, &mut problems),
        };
        Ok(Some(Parsed { value, problems }))
    }
}

/// `clusterIPs`, or `clusterIP` where a manifest has only that.
fn cluster_ips(spec: &ServiceSpec) -> Vec<&str> {
    match (&spec.cluster_ip, spec.cluster_ips.as_deref()) {
        (Some(ip), _) if ip.is_empty() || ip == "None" => vec![ip],
        (_, Some(ips)) if !ips.is_empty() => ips.iter().map(String::as_str).collect(),
        (Some(ip), _) => vec![ip],
        (None, _) => Vec::new(),
    }
}

/// Each once, in the order written.
fn addresses<'a>(
    field: &str,
    written: impl IntoIterator<Item = &'a str>,
    problems: &mut Vec<Malformed>,
) -> Box<[IpAddr]> {
    let mut ips = Vec::new();
    for (at, text) in written.into_iter().enumerate() {
        if let Some(ip) = sift(routable(&format!("{field}[{at}]"), text), problems)
            && !ips.contains(&ip)
        {
            ips.push(ip);
        }
    }
    ips.into()
}

/// `Proxy` means that the load balancer insists on seeing the traffic: its address is not the proxy's.
fn vips(resource: &v1::Service) -> impl Iterator<Item = &str> {
    let balancer = resource.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    balancer
        .and_then(|balancer| balancer.ingress.as_ref())
        .into_iter()
        .flatten()
        .filter(|ingress| ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"))
        .filter_map(|ingress| ingress.ip.as_deref())
        .filter(|ip| !ip.is_empty())
}

fn ports(spec: &ServiceSpec, problems: &mut Vec<Malformed>) -> Result<Box<[ServicePort]>, Malformed> {
    let written = spec.ports.as_deref().unwrap_or_default();
    if written.is_empty() {
        return Err(Malformed::new("spec.ports", "is empty; a Service needs at least one port"));
    }
    let mut ports: Vec<ServicePort> = Vec::with_capacity(written.len());
    for (at, port) in written.iter().enumerate() {
        let field = format!("spec.ports[{at}]");
        let Some(port) = sift(service_port(&field, port), problems) else { continue };
        let twin = ports.iter().find(|other| {
            let same_node_port = port.node_port != 0 && other.node_port == port.node_port;
            other.protocol == port.protocol
                && (other.port == port.port || other.label() == port.label() || same_node_port)
        });
        match twin {
            Some(twin) => problems.push(Malformed::new(
                field,
                format!(
                    "{} port `{}` is also port `{}` of this Service; give each its own name, number and node port",
                    port.protocol.name(),
                    port.label(),
                    twin.label()
                ),
            )),
            None => ports.push(port),
        }
    }
    if ports.is_empty() { Err(problems.swap_remove(0)) } else { Ok(ports.into()) }
}

fn service_port(field: &str, written: &v1::ServicePort) -> Result<ServicePort, Malformed> {
    let name = match written.name.as_deref() {
        None | Some("") => "",
        name => checked(&format!("{field}.name"), name, PORT_NAME_BYTES)?,
    };
    let node_port = match written.node_port {
        None | Some(0) => 0,
        Some(number) => port(&format!("{field}.nodePort"), number)?,
    };
    Ok(ServicePort {
        name: name.into(),
        protocol: protocol(&format!("{field}.protocol"), written.protocol.as_deref())?,
        port: port(&format!("{field}.port"), written.port)?,
        node_port,
    })
}

/// TCP where nothing is written.
pub(in crate::model) fn protocol(field: &str, written: Option<&str>) -> Result<Protocol, Malformed> {
    let name = written.unwrap_or("TCP");
    Protocol::from_name(name)
        .ok_or_else(|| Malformed::new(field, format!("`{name}` is no protocol; write TCP, UDP or SCTP")))
}

/// `None`: ranges are written, and none of them can be read.
fn source_ranges(spec: &ServiceSpec, problems: &mut Vec<Malformed>) -> Option<Box<[IpNet]>> {
    let written = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    let mut ranges = Vec::with_capacity(written.len());
    for (at, text) in written.iter().enumerate() {
        let range = text.trim().parse::<IpNet>().map_err(|_| {
            Malformed::new(
                format!("spec.loadBalancerSourceRanges[{at}]"),
                format!("`{text}` is no CIDR; write one such as 10.0.0.0/8 or fd00::/8"),
            )
        });
        ranges.extend(sift(range, problems).map(|range| range.trunc()));
    }
    if ranges.is_empty() && !written.is_empty() { None } else { Some(ranges.into()) }
}

fn policy(field: &str, written: Option<&str>, problems: &mut Vec<Malformed>) -> Policy {
    match written {
        None | Some("" | "Cluster") => Policy::Cluster,
        Some("Local") => Policy::Local,
        Some(other) => {
            problems.push(Malformed::new(
                field,
                format!("`{other}` is no policy, Cluster is used; write Cluster or Local"),
            ));
            Policy::Cluster
        }
    }
}

fn algorithm(resource: &v1::Service, problems: &mut Vec<Malformed>) -> Algorithm {
    let annotations = resource.metadata.annotations.as_ref();
    match annotations.and_then(|annotations| annotations.get(ALGORITHM)).map(String::as_str) {
        None | Some("random") => Algorithm::Random,
        Some("maglev") => Algorithm::Maglev,
        Some(other) => {
            let problem = format!("`{other}` is no algorithm, random is used; write random or maglev");
            problems.push(Malformed::new(format!("metadata.annotations[{ALGORITHM}]"), problem));
            Algorithm::Random
        }
    }
}

fn health_check_port(spec: &ServiceSpec, problems: &mut Vec<Malformed>) -> u16 {
    let asked =
        spec.type_.as_deref() == Some("LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local");
    match spec.health_check_node_port {
        Some(number) if asked && number != 0 => {
            sift(port("spec.healthCheckNodePort", number), problems).unwrap_or_default()
        }
        _ => 0,
    }
}

fn affinity_seconds(spec: &ServiceSpec, problems: &mut Vec<Malformed>) -> Option<u32> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => return None,
        Some("ClientIP") => {}
        Some(other) => {
            let problem = format!("`{other}` is no affinity, none is used; write None or ClientIP");
            problems.push(Malformed::new("spec.sessionAffinity", problem));
            return None;
        }
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|client| client.timeout_seconds).unwrap_or(AFFINITY_SECONDS);
    if !(1..=MAX_AFFINITY_SECONDS).contains(&seconds) {
        problems.push(Malformed::new(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            format!("{seconds} is out of range, {AFFINITY_SECONDS} is used; write 1 to {MAX_AFFINITY_SECONDS}"),
        ));
        return Some(AFFINITY_SECONDS.unsigned_abs());
    }
    Some(seconds.unsigned_abs())
}
