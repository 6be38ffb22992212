//! The manifests of the shop, as objects that can be changed, and what they say about services and pods.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use millrace_tests::address::twin;
use serde_json::Value;

use crate::shopper::Target;

/// A pod that some EndpointSlice names.
#[derive(Clone, Debug)]
pub(crate) struct PodSpec {
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) zone: String,
    pub(crate) v4: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) udp: bool,
}

/// One file of manifests: a Service and its slices.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) file: String,
    pub(crate) service: Service,
    pub(crate) slices: Vec<EndpointSlice>,
}

/// All files of a directory.
pub(crate) fn read(directory: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let files = fs::read_dir(directory).with_context(|| format!("no manifests in {}", directory.display()))?;
    for file in files {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            entries.push(entry(&path).with_context(|| path.display().to_string())?);
        }
    }
    ensure!(!entries.is_empty(), "no *.yaml in {}", directory.display());
    entries.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(entries)
}

fn entry(path: &Path) -> Result<Entry> {
    let (mut service, mut slices) = (None, Vec::new());
    for object in serde_saphyr::from_multiple::<Value>(&fs::read_to_string(path)?)? {
        match object["kind"].as_str() {
            Some("Service") => service = Some(serde_json::from_value(object)?),
            Some("EndpointSlice") => slices.push(serde_json::from_value(object)?),
            kind => anyhow::bail!("the demo has no use for a {kind:?}"),
        }
    }
    let file = path.file_name().context("no file name")?.to_string_lossy().into_owned();
    Ok(Entry { file, service: service.context("no Service in it")?, slices })
}

impl Entry {
    pub(crate) fn name(&self) -> &str {
        self.service.metadata.name.as_deref().unwrap_or_default()
    }

    /// For the agents' directory.
    pub(crate) fn objects(&self) -> Result<Vec<Value>> {
        let slices = self.slices.iter().map(serde_json::to_value);
        Ok([serde_json::to_value(&self.service)].into_iter().chain(slices).collect::<Result<_, _>>()?)
    }

    /// Its first port on each ClusterIP.
    pub(crate) fn target(&self) -> Result<Target> {
        let spec = self.service.spec.as_ref().context("a Service without spec")?;
        let port = spec.ports.iter().flatten().next().context("a Service without ports")?;
        let number = u16::try_from(port.port)?;
        let addresses = spec.cluster_ips.iter().flatten().map(|ip| Ok(SocketAddr::new(ip.parse()?, number)));
        Ok(Target {
            service: self.name().to_owned(),
            addresses: addresses.collect::<Result<_>>()?,
            udp: port.protocol.as_deref() == Some("UDP"),
        })
    }

    /// In words that a newcomer understands.
    pub(crate) fn policy(&self) -> &'static str {
        let local =
            self.service.spec.as_ref().and_then(|spec| spec.internal_traffic_policy.as_deref()) == Some("Local");
        let mut endpoints = self.slices.iter().flat_map(|slice| &slice.endpoints).peekable();
        if endpoints.peek().is_none() {
            "no endpoints"
        } else if local {
            "this node only"
        } else if endpoints.all(|endpoint| endpoint.hints.is_some()) {
            "zone hints"
        } else {
            "any zone"
        }
    }

    /// The pods that its IPv4 slices name.
    pub(crate) fn pods(&self) -> Result<Vec<PodSpec>> {
        let mut pods = BTreeMap::new();
        for slice in self.slices.iter().filter(|slice| slice.address_type == "IPv4") {
            let port = slice.ports.iter().flatten().next().context("a slice without ports")?;
            for endpoint in &slice.endpoints {
                let pod = PodSpec {
                    name: pod_name(endpoint).context("an endpoint without targetRef")?.to_owned(),
                    node: endpoint.node_name.clone().context("an endpoint without nodeName")?,
                    zone: endpoint.zone.clone().context("an endpoint without zone")?,
                    v4: endpoint.addresses.first().context("an endpoint without address")?.parse()?,
                    port: u16::try_from(port.port.context("a port without number")?)?,
                    udp: port.protocol.as_deref() == Some("UDP"),
                };
                pods.insert(pod.name.clone(), pod);
            }
        }
        Ok(pods.into_values().collect())
    }

    /// Takes a pod's endpoints out of the slices.
    pub(crate) fn remove(&mut self, pod: &str) {
        for slice in &mut self.slices {
            slice.endpoints.retain(|endpoint| pod_name(endpoint) != Some(pod));
        }
    }

    /// Adds endpoints for a pod, like those of a sibling in its zone.
    pub(crate) fn add(&mut self, pod: &PodSpec) -> Result<()> {
        for slice in &mut self.slices {
            let sibling = slice.endpoints.iter().find(|endpoint| endpoint.zone.as_ref() == Some(&pod.zone));
            let mut endpoint = sibling.context("no sibling in the zone")?.clone();
            let address = if slice.address_type == "IPv6" { IpAddr::from(twin(pod.v4)) } else { pod.v4.into() };
            endpoint.addresses = vec![address.to_string()];
            if let Some(target) = &mut endpoint.target_ref {
                target.name = Some(pod.name.clone());
            }
            slice.endpoints.push(endpoint);
        }
        Ok(())
    }
}

fn pod_name(endpoint: &k8s_openapi::api::discovery::v1::Endpoint) -> Option<&str> {
    endpoint.target_ref.as_ref()?.name.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> Vec<Entry> {
        read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/manifests"))).unwrap()
    }

    #[test]
    fn every_service_is_dual_stack_and_every_pod_has_both_addresses() {
        for entry in shop() {
            let target = entry.target().unwrap();
            let families: Vec<_> = target.addresses.iter().map(SocketAddr::is_ipv6).collect();
            assert_eq!(families, [false, true], "{}", entry.name());
            let addresses = |kind: &str| -> Vec<IpAddr> {
                let slices = entry.slices.iter().filter(|slice| slice.address_type == kind);
                let endpoints = slices.flat_map(|slice| &slice.endpoints);
                endpoints.map(|endpoint| endpoint.addresses[0].parse().unwrap()).collect()
            };
            let twins = |ip: IpAddr| if let IpAddr::V4(v4) = ip { IpAddr::from(twin(v4)) } else { ip };
            let expected: Vec<_> = addresses("IPv4").into_iter().map(twins).collect();
            assert_eq!(addresses("IPv6"), expected, "{}", entry.name());
        }
    }

    #[test]
    fn no_two_pods_share_an_address() {
        let pods: Vec<_> = shop().iter().flat_map(|entry| entry.pods().unwrap()).collect();
        let addresses: std::collections::BTreeSet<_> = pods.iter().map(|pod| pod.v4).collect();
        assert_eq!(addresses.len(), pods.len());
    }

    #[test]
    fn a_pod_that_leaves_and_one_that_comes_change_both_slices() {
        let mut entry = shop().into_iter().find(|entry| entry.name() == "cart").unwrap();
        let leaving = entry.pods().unwrap().remove(0);
        entry.remove(&leaving.name);
        let coming = PodSpec { name: "cart-a9".into(), v4: Ipv4Addr::new(192, 168, 1, 200), ..leaving };
        entry.add(&coming).unwrap();
        for slice in &entry.slices {
            let names: Vec<_> = slice.endpoints.iter().filter_map(pod_name).collect();
            assert_eq!(names, ["cart-a2", "cart-b1", "cart-b2", "cart-a9"]);
        }
    }
}
