//! This node, as the cluster knows it: its zone, its addresses, and whether it is about to go.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;

/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#topologykubernetesiozone>
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Set by the cluster autoscaler on a node that it drains: `KEP-3836` takes such a node out of load balancers.
const DOOMED_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub name: Box<str>,
    pub zone: Option<Box<str>>,
    /// `status.addresses` of type `InternalIP`, in the order of the object.
    pub addresses: Box<[IpAddr]>,
    /// Being deleted, or tainted for it by the cluster autoscaler: new connections should go elsewhere.
    pub leaving: bool,
}

impl Node {
    /// Never fails: an address that is none is left out, for the rest of the object still holds.
    #[must_use]
    pub fn from_resource(resource: &core::Node) -> Self {
        let metadata = &resource.metadata;
        let zone = metadata.labels.iter().flatten().find(|(key, _)| *key == ZONE_LABEL).map(|(_, zone)| zone);
        let addresses = resource.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let taints = resource.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        Self {
            name: metadata.name.as_deref().unwrap_or_default().into(),
            zone: zone.filter(|zone| !zone.is_empty()).map(|zone| zone.as_str().into()),
            addresses: addresses
                .filter(|address| address.type_ == "InternalIP")
                .filter_map(|address| address.address.parse().ok())
                .collect(),
            leaving: metadata.deletion_timestamp.is_some() || taints.into_iter().any(|taint| taint.key == DOOMED_TAINT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_tells_its_zone_its_internal_addresses_and_that_it_is_to_be_removed() {
        let resource = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "n1", "labels": {ZONE_LABEL: "eu-west-1a"}},
            "spec": {"taints": [{"key": DOOMED_TAINT, "effect": "NoSchedule"}]},
            "status": {"addresses": [
                {"type": "InternalIP", "address": "10.0.0.7"},
                {"type": "InternalIP", "address": "fd00::7"},
                {"type": "InternalIP", "address": "not an address"},
                {"type": "ExternalIP", "address": "198.51.100.7"},
                {"type": "Hostname", "address": "n1"},
            ]},
        }))
        .unwrap();
        assert_eq!(
            Node::from_resource(&resource),
            Node {
                name: "n1".into(),
                zone: Some("eu-west-1a".into()),
                addresses: ["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()].into(),
                leaving: true,
            }
        );
    }
}
