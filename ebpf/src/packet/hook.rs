//! Where a program runs, as far as it decides what becomes of packets: constants, so that each program is verified
//! with its own branches only.

/// Whose packets begin flows here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    /// A pod of this node, on its own veth.
    Pod,
    /// Somebody behind an uplink: a client of the node ports, or another node's pod.
    Outside,
    /// A process of the node itself, where no socket hook has seen its call.
    Host,
}

pub(super) trait Hook {
    const CLIENT: Client;
    /// The packet is about to leave by the device; otherwise it has just come.
    const EGRESS: bool;
    /// Flows with [`millrace_common::flow::state::NODE`] pass here. Others have their answers translated at a pod's veth.
    const NODE: bool;
    /// What is sent to a pod of this node may go past its stack.
    const PAST: bool;
}

pub(super) struct FromPod;
pub(super) struct ToPod;
pub(super) struct FromUplink;
pub(super) struct ToUplink;

impl Hook for FromPod {
    const CLIENT: Client = Client::Pod;
    const EGRESS: bool = false;
    const NODE: bool = true;
    const PAST: bool = true;
}

impl Hook for ToPod {
    const CLIENT: Client = Client::Pod;
    const EGRESS: bool = true;
    const NODE: bool = false;
    const PAST: bool = false;
}

impl Hook for FromUplink {
    const CLIENT: Client = Client::Outside;
    const EGRESS: bool = false;
    const NODE: bool = true;
    const PAST: bool = false;
}

impl Hook for ToUplink {
    const CLIENT: Client = Client::Host;
    const EGRESS: bool = true;
    const NODE: bool = true;
    const PAST: bool = false;
}
