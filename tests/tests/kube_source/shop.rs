//! A source that follows a server, and whether it sees what the server has.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use millrace_agent::watch::{
    Settings,
    kube::{self, Connection},
};
use millrace_tests::{
    apiserver::{ApiServerDouble, Disturbance, Kind, Server, Verb},
    view::View,
};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::objects::{service, slice};

/// In place of the 90 seconds after which a silent connection counts as dead.
pub const IDLE: Duration = Duration::from_millis(400);
/// Long enough for a change that should not come to come.
pub const QUIET: Duration = Duration::from_millis(300);

/// The source, on its way.
pub fn follow(connection: Connection, proxy_name: Option<&str>) -> (View, JoinHandle<()>) {
    let (view, output) = View::new();
    let settings = Settings { node_name: "n1".to_owned(), proxy_name: proxy_name.map(str::to_owned) };
    let running = tokio::spawn(async move { kube::run(&connection, &settings, &output).await });
    (view, running)
}

/// Addresses by name: what the server has of a kind, in the test's namespace.
pub async fn at_server(server: &Server, kind: Kind) -> BTreeMap<String, Vec<String>> {
    let addresses = |object: &Value| match kind {
        Kind::Service => object["spec"]["clusterIPs"].as_array().unwrap().clone(),
        _ => object["endpoints"].as_array().unwrap().iter().map(|endpoint| endpoint["addresses"][0].clone()).collect(),
    };
    let entry = |object: &Value| {
        let addresses = addresses(object).iter().map(|it| it.as_str().unwrap().to_owned()).collect();
        (object["metadata"]["name"].as_str().unwrap().to_owned(), addresses)
    };
    server.objects(kind).await.iter().map(entry).collect()
}

/// The same, as the source has it.
pub fn in_view(view: &View, namespace: &str, kind: Kind) -> BTreeMap<String, Vec<String>> {
    let prefix = format!("{namespace}/");
    let services =
        view.services.iter().map(|(key, it)| (key, it.cluster_ips.iter().map(ToString::to_string).collect()));
    let slices =
        view.slices.iter().map(|(key, it)| (key, it.endpoints.iter().map(|it| it.address.to_string()).collect()));
    let all: BTreeMap<&String, Vec<String>> = if kind == Kind::Service { services.collect() } else { slices.collect() };
    all.into_iter().filter_map(|(key, addresses)| Some((key.strip_prefix(&prefix)?.to_owned(), addresses))).collect()
}

/// Waits until the source sees what the server has.
pub async fn until_equal(view: &mut View, server: &Server) {
    for kind in [Kind::Service, Kind::EndpointSlice] {
        let expected = at_server(server, kind).await;
        let namespace = server.namespace();
        view.until(&format!("{kind:?}s are {expected:?}"), |view| in_view(view, namespace, kind) == expected).await;
    }
}

/// As soon as a watch of the kind is open, disturbs it.
pub async fn disturb(double: &ApiServerDouble, kind: Kind, disturbance: Disturbance) {
    let start = Instant::now();
    while double.disturb(kind, disturbance) == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "no watch is open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A double with a small shop on it, and a source in sync with it. Only for faults: no real API server can be told to
/// fail, so these tests never run on one.
pub struct Shop {
    pub server: Server,
    pub view: View,
}

impl Shop {
    pub async fn open() -> Self {
        if std::env::var_os("MILLRACE_TEST_KUBECONFIG").is_some() {
            println!("on the double only: a real API server cannot be told to fail");
        }
        let server = Server::Double(ApiServerDouble::start().await);
        for (name, address) in [("cart", "10.96.0.1"), ("pay", "10.96.0.2")] {
            server.apply(service("shop", name, address)).await;
            server.apply(slice("shop", &format!("{name}-1"), name, &["10.0.0.1", "10.0.0.2"])).await;
        }
        let (mut view, _) = follow(server.connection(IDLE), None);
        view.until_synced().await;
        let shop = Self { server, view };
        shop.disturb(Disturbance::Bookmark).await;
        shop
    }

    pub fn double(&self) -> &ApiServerDouble {
        let Server::Double(double) = &self.server else { unreachable!("the shop is on a double") };
        double
    }

    pub fn lists(&self) -> usize {
        self.double().asked(Kind::Service, Verb::List).len()
    }

    pub async fn apply(&self, name: &str, address: &str) {
        self.server.apply(service("shop", name, address)).await;
    }

    pub async fn disturb(&self, disturbance: Disturbance) {
        disturb(self.double(), Kind::Service, disturbance).await;
    }

    pub async fn until_equal(&mut self) {
        until_equal(&mut self.view, &self.server).await;
    }
}
