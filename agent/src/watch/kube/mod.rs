//! `--source kube`: the API server's Services, EndpointSlices, ServiceCIDRs and this node, each followed on its own.

mod connection;
mod follow;
mod known;
mod pace;
mod retry_after;
mod start;

use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery, networking::v1 as networking};

pub use self::connection::{Connection, IDLE_TIMEOUT};
use self::{
    follow::{Follow, Selector},
    start::Start,
};
use super::output::Output;

const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whose object tells the zone.
    pub node_name: String,
    /// This proxy's `service.kubernetes.io/service-proxy-name`, if it is not the cluster's default one.
    pub proxy_name: Option<String>,
}

/// Says what there is, then [`super::Change::Synced`], then what changes. Ends when nobody listens any more; dropping the
/// future ends it too. An API server that fails is asked again, for ever: meanwhile, what it has said stays in force.
pub async fn run(connection: &Connection, settings: &Settings, output: &Output) {
    let [services, slices, cidrs, node] = Start::of();
    let labels = Selector { labels: Some(label_selector(settings.proxy_name.as_deref())), fields: None };
    let this_node = Selector { labels: None, fields: Some(format!("metadata.name={}", settings.node_name)) };
    let proxy_name = &settings.proxy_name;
    // Each ends only when nobody listens, which ends them all.
    tokio::select! {
        _ = Follow::<core::Service>::new(connection, labels.clone(), proxy_name.clone(), output.clone(), services).run() => {}
        _ = Follow::<discovery::EndpointSlice>::new(connection, labels, proxy_name.clone(), output.clone(), slices).run() => {}
        _ = Follow::<networking::ServiceCIDR>::new(connection, Selector::default(), None, output.clone(), cidrs).run() => {}
        _ = Follow::<core::Node>::new(connection, this_node, None, output.clone(), node).run() => {}
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
