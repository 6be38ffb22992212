//! Reads an EndpointSlice as Kubernetes writes it.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::api::discovery::v1;

use super::{Endpoint, EndpointSlice, SliceKey, SlicePort, Topology};
use crate::model::{
    Malformed, Parsed, ServiceKey,
    address::{port, routable, sift},
    ours::{checked, is_ours, namespace_and_name},
    service::protocol,
};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// DNS subdomains (RFC 1123): slices carry generated names.
const SUBDOMAIN_BYTES: usize = 253;

impl EndpointSlice {
    /// `None`: nothing that a proxy serves (another proxy's, of a headless Service or of none, of type FQDN).
    ///
    /// # Errors
    /// The field without which nothing of the slice can be used. Endpoints and ports that make no sense are left out
    /// and listed in [`Parsed::problems`]; the slice's others keep working.
    pub fn from_resource(
        resource: &v1::EndpointSlice,
        proxy_name: Option<&str>,
    ) -> Result<Option<Parsed<Self>>, Malformed> {
        let metadata = &resource.metadata;
        let service = metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)).map(String::as_str);
        let Some(service) = service.filter(|name| !name.is_empty()) else { return Ok(None) };
        if !is_ours(metadata.labels.as_ref(), proxy_name) || resource.address_type == "FQDN" {
            return Ok(None);
        }
        let v6 = match resource.address_type.as_str() {
            "IPv4" => false,
            "IPv6" => true,
            other => {
                let problem = format!("`{other}` is no address type; write IPv4, IPv6 or FQDN");
                return Err(Malformed::new("addressType", problem));
            }
        };
        let name = checked("metadata.name", metadata.name.as_deref(), SUBDOMAIN_BYTES)?;
        let (namespace, service) = namespace_and_name(metadata.namespace.as_deref(), Some(service))?;
        let mut problems = Vec::new();
        let ports = (resource.ports.iter().flatten().enumerate())
            .filter_map(|(at, port)| sift(slice_port(at, port).transpose()?, &mut problems))
            .collect();
        let endpoints = (resource.endpoints.iter().enumerate())
            .filter_map(|(at, written)| sift(endpoint(at, written, v6), &mut problems))
            .collect();
        let service = ServiceKey::new(namespace, service);
        let value = Self {
            key: SliceKey::new(namespace, name),
            service,
            ports,
            endpoints,
            triggered: (metadata.annotations.as_ref())
                .and_then(|annotations| annotations.get(TRIGGER_TIME))
                .and_then(|time| time.parse::<jiff::Timestamp>().ok())
                .map(jiff::Timestamp::as_millisecond),
        };
        Ok(Some(Parsed { value, problems }))
    }
}

/// `None`: without a number it means "all ports", which no proxy can serve.
fn slice_port(at: usize, written: &v1::EndpointPort) -> Result<Option<SlicePort>, Malformed> {
    let Some(number) = written.port else { return Ok(None) };
    Ok(Some(SlicePort {
        name: written.name.as_deref().unwrap_or_default().into(),
        protocol: protocol(&format!("ports[{at}].protocol"), written.protocol.as_deref())?,
        port: port(&format!("ports[{at}].port"), number)?,
    }))
}

fn endpoint(at: usize, written: &v1::Endpoint, v6: bool) -> Result<Endpoint, Malformed> {
    // The API says that all addresses of an endpoint mean the same backend, and that consumers use the first.
    let field = format!("endpoints[{at}].addresses[0]");
    let Some(text) = written.addresses.first() else {
        return Err(Malformed::new(field, "is missing; an endpoint needs an address"));
    };
    let address = routable(&field, text)?;
    if matches!(address, IpAddr::V6(_)) != v6 {
        let family = if v6 { "IPv6" } else { "IPv4" };
        return Err(Malformed::new(
            field,
            format!("`{text}` is not of the slice's addressType {family}; put it in a slice of its own family"),
        ));
    }
    let condition = |pick: fn(&v1::EndpointConditions) -> Option<bool>| written.conditions.as_ref().and_then(pick);
    Ok(Endpoint {
        address,
        ready: condition(|c| c.ready).unwrap_or(true),
        serving: condition(|c| c.serving).unwrap_or(true),
        terminating: condition(|c| c.terminating).unwrap_or(false),
        topology: topology(written),
    })
}

fn topology(written: &v1::Endpoint) -> Option<Arc<Topology>> {
    let hints = written.hints.as_ref();
    let zones = hints.and_then(|hints| hints.for_zones.as_deref()).unwrap_or_default();
    let nodes = hints.and_then(|hints| hints.for_nodes.as_deref()).unwrap_or_default();
    let topology = Topology {
        node: written.node_name.as_deref().filter(|node| !node.is_empty()).map(Into::into),
        zones: zones.iter().map(|zone| zone.name.as_str().into()).collect(),
        nodes: nodes.iter().map(|node| node.name.as_str().into()).collect(),
    };
    (topology != Topology::default()).then(|| Arc::new(topology))
}
