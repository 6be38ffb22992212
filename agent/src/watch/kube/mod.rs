//! `--source kube`: the API server's Services, EndpointSlices and ServiceCIDRs, this node, its pods, and namespaces that
//! say something of theirs, each kind followed on its own.

mod connection;
mod events;
mod follow;
mod known;
mod pace;
mod retry_after;
mod start;

use k8s_openapi::{
    Resource as _,
    api::{core::v1 as core, discovery::v1 as discovery, networking::v1 as networking},
};

pub use self::{
    connection::{Connection, IDLE_TIMEOUT},
    events::write as write_events,
};
use self::{
    follow::{Follow, Selector},
    start::Start,
};
use super::{Change, Settings, output::Output};
use crate::model::SocketLb;

const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// Says what there is, then [`Change::Synced`], then what changes; of pods and namespaces for itself, with
/// [`Change::PodsSynced`]: an account that may not list them is served all the Services. Ends when nobody listens any more;
/// dropping the future ends it too. An API server that fails is asked again, for ever: meanwhile, what it has said stays in
/// force.
pub async fn run(connection: &Connection, settings: &Settings, output: &Output) {
    let [services, slices, cidrs, node] = Start::of(&Change::Synced);
    let awaited =
        [core::Service::KIND, discovery::EndpointSlice::KIND, networking::ServiceCIDR::KIND, core::Node::KIND];
    output.health().await_lists(awaited);
    let [pods, namespaces] = Start::of(&Change::PodsSynced);
    let ours = Selector::labels(label_selector(settings.proxy_name.as_deref()));
    let this_node = Selector::fields(format!("metadata.name={}", settings.node_name));
    let of_this_node = Selector::fields(format!("spec.nodeName={}", settings.node_name));
    let with_the_switch = Selector::labels(SocketLb::KEY.to_owned());
    // Each ends only when nobody listens, which ends them all.
    tokio::select! {
        _ = Follow::<core::Service>::new(connection, ours.clone(), settings, output, services).run() => {}
        _ = Follow::<discovery::EndpointSlice>::new(connection, ours, settings, output, slices).run() => {}
        _ = Follow::<networking::ServiceCIDR>::new(connection, Selector::default(), settings, output, cidrs).run() => {}
        _ = Follow::<core::Node>::new(connection, this_node, settings, output, node).run() => {}
        _ = Follow::<core::Pod>::new(connection, of_this_node, settings, output, pods).run() => {}
        _ = Follow::<core::Namespace>::new(connection, with_the_switch, settings, output, namespaces).run() => {}
    }
}

/// The server leaves out what this proxy never serves. Label selectors cannot say "absent or equal": a proxy with a name
/// of its own sees every name, and sorts them out object by object.
fn label_selector(proxy_name: Option<&str>) -> String {
    match proxy_name {
        None => format!("!{HEADLESS_LABEL},!{PROXY_NAME_LABEL}"),
        Some(_) => format!("!{HEADLESS_LABEL}"),
    }
}
