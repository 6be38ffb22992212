//! Where objects come from: an API server or a directory of manifests. Each source turns what it sees into
//! [`Change`]s; nothing behind this module knows which source it was.

pub mod dir;
mod error;
mod health;
pub mod kube;
mod output;
mod rejection;
mod resource;
mod settings;
mod source;
mod warning;

pub use self::{
    error::WatchError,
    health::{Counter, Health},
    output::Output,
    rejection::{Doubt, Rejection},
    resource::ObjectKey,
    settings::Settings,
    source::Source,
    warning::{Warning, WarningReason},
};
use crate::model::{
    EndpointSlice, HostPorts, Namespace, Node, Pod, PodKey, Service, ServiceCidr, ServiceKey, SliceKey,
};

/// One thing a source says. A source that lists anew sends the deletes for what it no longer finds, and only after a
/// list that was complete: a slow or failed list deletes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// `None`: the Service is gone (or is no longer ours to serve).
    Service(ServiceKey, Option<Box<Service>>),
    /// `None`: the EndpointSlice is gone.
    EndpointSlice(SliceKey, Option<Box<EndpointSlice>>),
    /// `None`: the ServiceCIDR object is gone.
    ServiceCidr(Box<str>, Option<ServiceCidr>),
    /// The host ports of the pod in a sandbox ([`ServiceKey::of_sandbox`]), from whoever wires pods: all of them before
    /// [`Change::Synced`], or a restart takes them away for as long as they are missing. `None`: the pod has none, or is gone.
    HostPorts(ServiceKey, Option<Box<HostPorts>>),
    /// The node that the agent runs on, from sources that know it. `None`: its object is gone.
    Node(Option<Box<Node>>),
    /// A pod of the node that the agent runs on. `None`: it is gone, or over.
    Pod(PodKey, Option<Box<Pod>>),
    /// A namespace that says something of its pods. `None`: it does no longer.
    Namespace(Box<str>, Option<Namespace>),
    /// An object or a file that makes no sense, or a part of one. What was known of it before stays in force.
    Rejected(Rejection),
    /// What was rejected as a whole makes sense again, or is gone.
    Settled(Doubt),
    /// The source has said everything that it knew at its start, but for pods and namespaces. Sent once.
    Synced,
    /// The same for pods and namespaces, before or after the rest: Services do not wait for them. Until then no pod is
    /// given back to the socket hooks.
    PodsSynced,
}
