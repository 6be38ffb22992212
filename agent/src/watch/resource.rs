//! What one Kubernetes object comes to: the edge where Kubernetes types end and [`Change`]s begin, for both sources.

use std::fmt;

use k8s_openapi::{
    Metadata,
    api::{core::v1 as core, discovery::v1 as discovery, networking::v1 as networking},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Change, Rejection};
use crate::model::{EndpointSlice, Malformed, Node, Parsed, Service, ServiceCidr, ServiceKey, SliceKey};

/// Which object, of the kinds that a source reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ObjectKey {
    Service(ServiceKey),
    EndpointSlice(SliceKey),
    ServiceCidr(Box<str>),
    Node(Box<str>),
}

impl ObjectKey {
    /// Shares its strings with the change.
    fn of(change: &Change) -> Option<Self> {
        match change {
            Change::Service(key, _) => Some(Self::Service(key.clone())),
            Change::EndpointSlice(key, _) => Some(Self::EndpointSlice(key.clone())),
            Change::ServiceCidr(name, _) => Some(Self::ServiceCidr(name.clone())),
            // No object of an API says so.
            Change::HostPorts(..) | Change::Node(_) | Change::Rejected(_) | Change::Synced => None,
        }
    }

    /// The change that takes the object away.
    pub(super) fn delete(self) -> Change {
        match self {
            Self::Service(key) => Change::Service(key, None),
            Self::EndpointSlice(key) => Change::EndpointSlice(key, None),
            Self::ServiceCidr(name) => Change::ServiceCidr(name, None),
            Self::Node(_) => Change::Node(None),
        }
    }

    pub(super) fn reject(&self, reason: String) -> Change {
        Change::Rejected(Rejection { object: self.to_string(), reason })
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(key) => write!(f, "Service {key}"),
            Self::EndpointSlice(key) => write!(f, "EndpointSlice {key}"),
            Self::ServiceCidr(name) => write!(f, "ServiceCIDR {name}"),
            Self::Node(name) => write!(f, "Node {name}"),
        }
    }
}

/// An object that a source has read.
#[derive(Debug, PartialEq)]
pub(super) struct Object {
    pub key: ObjectKey,
    pub verdict: Verdict,
}

#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// The change that puts it in force, and what of it could not be understood and is left out.
    Served(Change, Vec<Malformed>),
    /// Well formed, but nothing for a service proxy, or for another one.
    NotServed,
    /// What is wrong with it and how to mend it.
    Rejected(String),
}

/// A kind that sources read.
pub(super) trait Watched: Metadata<Ty = ObjectMeta> {
    const NAMESPACED: bool;
    /// Whether there are API servers of a supported version that do not know it.
    const OPTIONAL: bool = false;

    fn key(metadata: &ObjectMeta) -> ObjectKey;

    /// `None`: not served. `proxy_name` is this proxy's `service.kubernetes.io/service-proxy-name`.
    fn change(&self, proxy_name: Option<&str>) -> Result<Option<Parsed<Change>>, Malformed>;

    fn read(&self, proxy_name: Option<&str>) -> Object {
        let verdict = match self.change(proxy_name) {
            Ok(Some(parsed)) => Verdict::Served(parsed.value, parsed.problems),
            Ok(None) => Verdict::NotServed,
            Err(malformed) => Verdict::Rejected(malformed.to_string()),
        };
        let key = match &verdict {
            Verdict::Served(change, _) => ObjectKey::of(change),
            Verdict::NotServed | Verdict::Rejected(_) => None,
        };
        Object { key: key.unwrap_or_else(|| Self::key(self.metadata())), verdict }
    }
}

impl Watched for core::Service {
    const NAMESPACED: bool = true;

    fn key(metadata: &ObjectMeta) -> ObjectKey {
        ObjectKey::Service(ServiceKey::new(namespace(metadata), name(metadata)))
    }

    fn change(&self, proxy_name: Option<&str>) -> Result<Option<Parsed<Change>>, Malformed> {
        let service = Service::from_resource(self, proxy_name)?;
        Ok(service.map(|parsed| parsed.map(|it| Change::Service(it.key.clone(), Some(Box::new(it))))))
    }
}

impl Watched for discovery::EndpointSlice {
    const NAMESPACED: bool = true;

    fn key(metadata: &ObjectMeta) -> ObjectKey {
        ObjectKey::EndpointSlice(SliceKey::new(namespace(metadata), name(metadata)))
    }

    fn change(&self, proxy_name: Option<&str>) -> Result<Option<Parsed<Change>>, Malformed> {
        let slice = EndpointSlice::from_resource(self, proxy_name)?;
        Ok(slice.map(|parsed| parsed.map(|it| Change::EndpointSlice(it.key.clone(), Some(Box::new(it))))))
    }
}

impl Watched for networking::ServiceCIDR {
    const NAMESPACED: bool = false;
    const OPTIONAL: bool = true;

    fn key(metadata: &ObjectMeta) -> ObjectKey {
        ObjectKey::ServiceCidr(name(metadata).into())
    }

    fn change(&self, _proxy_name: Option<&str>) -> Result<Option<Parsed<Change>>, Malformed> {
        let cidr = ServiceCidr::from_resource(self)?;
        Ok(Some(cidr.map(|it| Change::ServiceCidr(it.name.clone(), Some(it)))))
    }
}

impl Watched for core::Node {
    const NAMESPACED: bool = false;

    fn key(metadata: &ObjectMeta) -> ObjectKey {
        ObjectKey::Node(name(metadata).into())
    }

    fn change(&self, _proxy_name: Option<&str>) -> Result<Option<Parsed<Change>>, Malformed> {
        let change = Change::Node(Some(Box::new(Node::from_resource(self))));
        Ok(Some(Parsed { value: change, problems: Vec::new() }))
    }
}

fn namespace(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().unwrap_or_default()
}

fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}
