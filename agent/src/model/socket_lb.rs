//! The switch `millrace.io/socket-lb` of pods and namespaces: who is translated when a connection is made, and who packet
//! by packet, as service meshes and virtual machines need it.

use std::collections::BTreeMap;

use super::Malformed;

/// A pod's annotation and a namespace's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SocketLb {
    /// By the socket hooks, as the node's `--socket-lb` says.
    On,
    /// Per packet, whatever the node says.
    Off,
}

impl SocketLb {
    pub(crate) const KEY: &str = "millrace.io/socket-lb";

    /// `None` where nothing, or nothing that makes sense, is said; `field` names the annotations or labels.
    pub(super) fn said(
        field: &str,
        written: Option<&BTreeMap<String, String>>,
        problems: &mut Vec<Malformed>,
    ) -> Option<Self> {
        match written?.get(Self::KEY)?.as_str() {
            "on" => Some(Self::On),
            "off" => Some(Self::Off),
            other => {
                let problem = format!("`{other}` says nothing, it is as if it were not there; write on or off");
                problems.push(Malformed::new(format!("{field}[{}]", Self::KEY), problem));
                None
            }
        }
    }
}
