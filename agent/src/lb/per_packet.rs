//! Which pods of this node are translated per packet although the socket hooks serve the others?

use std::collections::BTreeMap;

use crate::model::{Index, Pod, PodKey, PodUid, SocketLb};

/// Those whose annotation `millrace.io/socket-lb`, or else their namespace's label, is `off`.
#[must_use]
pub fn per_packet(index: &Index) -> BTreeMap<PodUid, PodKey> {
    let said = |pod: &Pod| pod.socket_lb.or_else(|| index.socket_lb(pod.key.namespace()));
    let chosen = index.pods().filter(|pod| said(pod) == Some(SocketLb::Off));
    chosen.map(|pod| (pod.uid.clone(), pod.key.clone())).collect()
}
