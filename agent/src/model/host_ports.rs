//! Ports of the node that lead to a pod of it: what a container runtime asks a CNI for (`portMappings`).

use std::net::IpAddr;

use super::{Malformed, Protocol, ServiceKey};

/// The host ports of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPorts {
    /// At most one of each family.
    pub pod: Box<[IpAddr]>,
    pub mappings: Box<[PortMapping]>,
}

/// One port of the node, and the pod's port behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortMapping {
    /// One of the node's addresses; `None`: all of them.
    pub host: Option<IpAddr>,
    pub host_port: u16,
    pub protocol: Protocol,
    pub pod_port: u16,
}

/// Whose host ports they are: where a Service has its namespace and name. No namespace of Kubernetes has a capital letter.
const NAMESPACE: &str = "hostPort";
/// Of a sandbox's id: containerd and CRI-O have 64 hexadecimal digits.
const ID_BYTES: usize = 64;

impl ServiceKey {
    /// The owner of the host ports of the pod in a sandbox, by the id that the runtime gives to a CNI.
    ///
    /// # Errors
    /// An id that the map NAMES cannot keep.
    pub fn of_sandbox(id: &str) -> Result<Self, Malformed> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if id.is_empty() || id.len() > ID_BYTES || !id.bytes().all(fits) {
            let problem =
                format!("`{id}` is no id of a sandbox; write 1 to {ID_BYTES} letters, digits, '-', '_' or '.'");
            return Err(Malformed::new("containerID", problem));
        }
        Ok(Self::new(NAMESPACE, id))
    }

    /// Whether it is the owner of a pod's host ports, and no Service.
    #[must_use]
    pub fn is_sandbox(&self) -> bool {
        self.parts().0 == NAMESPACE
    }
}
