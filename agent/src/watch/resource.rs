//! What one Kubernetes object comes to: the edge where Kubernetes types end and [`Change`]s begin, for both sources.

use std::fmt;

use k8s_openapi::{
    Metadata,
    api::{core::v1 as core, discovery::v1 as discovery, networking::v1 as networking},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Change, Doubt, Rejection, Settings};
use crate::model::{
    EndpointSlice, Malformed, Namespace, Node, Parsed, Pod, PodKey, Service, ServiceCidr, ServiceKey, SliceKey,
};

/// Which object, of the kinds that a source reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    Service(ServiceKey),
    EndpointSlice(SliceKey),
    ServiceCidr(Box<str>),
    Node(Box<str>),
    Pod(PodKey),
    Namespace(Box<str>),
}

impl ObjectKey {
    /// Shares its strings with the change.
    fn of(change: &Change) -> Option<Self> {
        match change {
            Change::Service(key, _) => Some(Self::Service(key.clone())),
            Change::EndpointSlice(key, _) => Some(Self::EndpointSlice(key.clone())),
            Change::ServiceCidr(name, _) => Some(Self::ServiceCidr(name.clone())),
            Change::Pod(key, _) => Some(Self::Pod(key.clone())),
            Change::Namespace(name, _) => Some(Self::Namespace(name.clone())),
            // No object of an API says so.
            Change::HostPorts(..)
            | Change::Node(_)
            | Change::Rejected(_)
            | Change::Settled(_)
            | Change::Synced
            | Change::PodsSynced => None,
        }
    }

    /// The change that takes the object away.
    pub(super) fn delete(self) -> Change {
        match self {
            Self::Service(key) => Change::Service(key, None),
            Self::EndpointSlice(key) => Change::EndpointSlice(key, None),
            Self::ServiceCidr(name) => Change::ServiceCidr(name, None),
            Self::Node(_) => Change::Node(None),
            Self::Pod(key) => Change::Pod(key, None),
            Self::Namespace(name) => Change::Namespace(name, None),
        }
    }

    /// Nothing of the object can be put in force.
    pub(super) fn reject(&self, reason: String) -> Change {
        Change::Rejected(Rejection::whole(self.doubt(), reason))
    }

    /// A part of the object is left out.
    pub(super) fn leave_out(&self, reason: String) -> Change {
        Change::Rejected(Rejection::part(self, reason))
    }

    pub(super) fn settled(&self) -> Change {
        Change::Settled(self.doubt())
    }

    fn doubt(&self) -> Doubt {
        Doubt::Object(self.clone())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(key) => write!(f, "Service {key}"),
            Self::EndpointSlice(key) => write!(f, "EndpointSlice {key}"),
            Self::ServiceCidr(name) => write!(f, "ServiceCIDR {name}"),
            Self::Node(name) => write!(f, "Node {name}"),
            Self::Pod(key) => write!(f, "Pod {key}"),
            Self::Namespace(name) => write!(f, "Namespace {name}"),
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

    /// `None`: not served.
    fn change(&self, settings: &Settings) -> Result<Option<Parsed<Change>>, Malformed>;

    fn read(&self, settings: &Settings) -> Object {
        let verdict = match self.change(settings) {
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

    fn change(&self, settings: &Settings) -> Result<Option<Parsed<Change>>, Malformed> {
        let service = Service::from_resource(self, settings.proxy_name())?;
        Ok(service.map(|parsed| parsed.map(|it| Change::Service(it.key.clone(), Some(Box::new(it))))))
    }
}

impl Watched for discovery::EndpointSlice {
    const NAMESPACED: bool = true;

    fn key(metadata: &ObjectMeta) -> ObjectKey {
        ObjectKey::EndpointSlice(SliceKey::new(namespace(metadata), name(metadata)))
    }

    fn change(&self, settings: &Settings) -> Result<Option<Parsed<Change>>, Malformed> {
        let slice = EndpointSlice::from_resource(self, settings.proxy_name())?;
        Ok(slice.map(|parsed| parsed.map(|it| Change::EndpointSlice(it.key.clone(), Some(Box::new(it))))))
    }
}

impl Watched for networking::ServiceCIDR {
    const NAMESPACED: bool = false;
    const OPTIONAL: bool = true;

    fn key(metadata: &ObjectMeta) -> ObjectKey {
        ObjectKey::ServiceCidr(name(metadata).into())
    }

    fn change(&self, _settings: &Settings) -> Result<Option<Parsed<Change>>, Malformed> {
        let cidr = ServiceCidr::from_resource(self)?;
        Ok(Some(cidr.map(|it| Change::ServiceCidr(it.name.clone(), Some(it)))))
    }
}

impl Watched for core::Node {
    const NAMESPACED: bool = false;

    fn key(metadata: &ObjectMeta) -> ObjectKey {
        ObjectKey::Node(name(metadata).into())
    }

    fn change(&self, settings: &Settings) -> Result<Option<Parsed<Change>>, Malformed> {
        if self.metadata.name.as_ref() != Some(&settings.node_name) {
            return Ok(None);
        }
        let change = Change::Node(Some(Box::new(Node::from_resource(self))));
        Ok(Some(Parsed { value: change, problems: Vec::new() }))
    }
}

impl Watched for core::Pod {
    const NAMESPACED: bool = true;

    fn key(metadata: &ObjectMeta) -> ObjectKey {
        ObjectKey::Pod(PodKey::new(namespace(metadata), name(metadata)))
    }

    fn change(&self, settings: &Settings) -> Result<Option<Parsed<Change>>, Malformed> {
        let pod = Pod::from_resource(self, &settings.node_name)?;
        Ok(pod.map(|parsed| parsed.map(|it| Change::Pod(it.key.clone(), Some(Box::new(it))))))
    }
}

impl Watched for core::Namespace {
    const NAMESPACED: bool = false;

    fn key(metadata: &ObjectMeta) -> ObjectKey {
        ObjectKey::Namespace(name(metadata).into())
    }

    fn change(&self, _settings: &Settings) -> Result<Option<Parsed<Change>>, Malformed> {
        let namespace = Namespace::from_resource(self)?;
        Ok(namespace.map(|parsed| parsed.map(|it| Change::Namespace(it.name.clone(), Some(it)))))
    }
}

fn namespace(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().unwrap_or_default()
}

fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}
