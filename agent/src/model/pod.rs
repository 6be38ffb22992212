//! A pod of this node, with only what tells its processes and how their connections are to be translated.

use std::{fmt, sync::Arc};

use k8s_openapi::api::core::v1 as core;

use super::{Malformed, Parsed, SocketLb};

/// On the API server's picture of a static pod: the UID that the kubelet knows it by, which is not the object's.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Namespace and name, as in `shop/cart-5d4f`: one shared text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey(Arc<str>);

impl PodKey {
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self([namespace, "/", name].concat().into())
    }

    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As the kubelet writes it into the name of the pod's cgroup, with dashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodUid(Arc<str>);

impl PodUid {
    #[must_use]
    pub fn new(uid: &str) -> Self {
        Self(uid.into())
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pod with a network namespace of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub key: PodKey,
    pub uid: PodUid,
    /// The annotation: goes before what the namespace says.
    pub socket_lb: Option<SocketLb>,
}

impl Pod {
    /// `None`: no pod of `node`, or one whose connections are nobody's to translate as a pod's: it is in the host's network,
    /// or over.
    ///
    /// # Errors
    /// A pod that cannot be found among the node's processes.
    pub fn from_resource(resource: &core::Pod, node: &str) -> Result<Option<Parsed<Self>>, Malformed> {
        let metadata = &resource.metadata;
        let spec = resource.spec.as_ref();
        let phase = resource.status.as_ref().and_then(|status| status.phase.as_deref());
        if spec.and_then(|spec| spec.node_name.as_deref()) != Some(node)
            || spec.and_then(|spec| spec.host_network) == Some(true)
            || matches!(phase, Some("Succeeded" | "Failed"))
        {
            return Ok(None);
        }
        let annotations = metadata.annotations.as_ref();
        let mirrored = annotations.and_then(|annotations| annotations.get(MIRROR));
        let Some(uid) = mirrored.or(metadata.uid.as_ref()).filter(|uid| !uid.is_empty()) else {
            let problem = "is missing; write the one that the kubelet gave to the pod's cgroup";
            return Err(Malformed::new("metadata.uid", problem));
        };
        let mut problems = Vec::new();
        let value = Self {
            key: PodKey::new(
                metadata.namespace.as_deref().unwrap_or("default"),
                metadata.name.as_deref().unwrap_or_default(),
            ),
            uid: PodUid::new(uid),
            socket_lb: SocketLb::said("metadata.annotations", annotations, &mut problems),
        };
        Ok(Some(Parsed { value, problems }))
    }
}
