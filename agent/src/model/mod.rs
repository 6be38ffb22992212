//! Services, EndpointSlices and what else decides, as plain values. Kubernetes types are read once, in `from_resource`.

mod address;
mod endpoint_slice;
mod host_ports;
mod index;
mod namespace;
mod node;
mod ours;
mod pod;
mod service;
mod service_cidr;
mod shared;
mod socket_lb;

pub(crate) use address::scope;
pub use endpoint_slice::{Endpoint, EndpointSlice, SliceKey, SlicePort, Topology};
pub use host_ports::{HostPorts, PortMapping};
pub use index::{Dirty, Index};
pub use namespace::Namespace;
pub use node::Node;
pub use pod::{Pod, PodKey, PodUid};
pub use service::{Algorithm, Policy, Protocol, Service, ServiceKey, ServicePort};
pub use service_cidr::ServiceCidr;
pub use socket_lb::SocketLb;

/// A resource that cannot be understood: which field, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Malformed {
    /// Path of the field, as in `spec.ports[0].port`.
    pub field: String,
    /// What is wrong and how to mend it.
    pub problem: String,
}

impl Malformed {
    fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// What could be understood of an object, and the parts of it that could not: these are left out, and each is worth a
/// rejection that names the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<T> {
    pub value: T,
    pub problems: Vec<Malformed>,
}

impl<T> Parsed<T> {
    pub(crate) fn map<U>(self, into: impl FnOnce(T) -> U) -> Parsed<U> {
        Parsed { value: into(self.value), problems: self.problems }
    }
}
