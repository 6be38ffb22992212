//! What a client asks for.

use std::collections::BTreeMap;

use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Service,
    EndpointSlice,
    ServiceCidr,
    Node,
    Pod,
    Namespace,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Service, Self::EndpointSlice, Self::ServiceCidr, Self::Node, Self::Pod, Self::Namespace];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::ServiceCidr => "ServiceCIDR",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Namespace => "Namespace",
        }
    }

    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Service | Self::Node | Self::Pod | Self::Namespace => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::ServiceCidr => "networking.k8s.io/v1",
        }
    }

    /// Of the collection, in all namespaces.
    const fn path(self) -> &'static str {
        match self {
            Self::Service => "/api/v1/services",
            Self::EndpointSlice => "/apis/discovery.k8s.io/v1/endpointslices",
            Self::ServiceCidr => "/apis/networking.k8s.io/v1/servicecidrs",
            Self::Node => "/api/v1/nodes",
            Self::Pod => "/api/v1/pods",
            Self::Namespace => "/api/v1/namespaces",
        }
    }

    /// The kind, namespace and name of a single object's path.
    pub(super) fn object_at(path: &str) -> Option<(Self, String)> {
        let (base, rest) = path.split_once("/namespaces/")?;
        let [namespace, collection, name] = rest.split('/').collect::<Vec<_>>()[..] else { return None };
        let kind = Self::ALL.into_iter().find(|kind| kind.path() == format!("{base}/{collection}"))?;
        Some((kind, format!("{namespace}/{name}")))
    }

    pub(super) fn of(object: &Value) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| object["kind"] == kind.name() && object["apiVersion"] == kind.api_version())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    List,
    Watch,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub kind: Kind,
    pub verb: Verb,
    pub query: BTreeMap<String, String>,
}

impl Request {
    /// `None`: nothing that is served.
    pub(super) fn parse(uri: &hyper::Uri) -> Option<Self> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.path() == uri.path())?;
        let query: BTreeMap<_, _> =
            form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let verb = if query.get("watch").is_some_and(|watch| watch == "true") { Verb::Watch } else { Verb::List };
        Some(Self { kind, verb, query })
    }

    /// Empty where it is not given.
    #[must_use]
    pub fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}
