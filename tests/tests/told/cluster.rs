//! One node, an API server on it and an agent that asks it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use millrace_tests::{
    agent::Agent,
    apiserver::ApiServerDouble,
    client::{self, Running},
    http::{self, Answer},
    manifests::Manifests,
    network::Network,
    node::Node,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 12);
const PATIENCE: Duration = Duration::from_secs(60);

/// The fields go in this order: the agent first.
pub struct Cluster {
    pub agent: Agent,
    pub server: ApiServerDouble,
    _serving: Running,
    _beside: Manifests,
    pub network: Network,
    _runtime: Runtime,
}

impl Cluster {
    /// With these objects at the API server when the agent starts.
    pub fn start(objects: impl IntoIterator<Item = Value>, arguments: &[&str]) -> Self {
        let network = Network::of_one_node(&[("server", SERVER), ("client", CLIENT)]).unwrap();
        let node = network.node("n1").unwrap();
        let serving = client::serve(&node.pod("server").unwrap().place(), "server", 8080).unwrap();
        let runtime = Runtime::new().unwrap();
        let entered = runtime.enter();
        let server = ApiServerDouble::start_on(node);
        drop(entered);
        objects.into_iter().for_each(|object| server.apply(object));
        let beside = Manifests::create().unwrap();
        let url = server.url();
        let arguments = [&["--source", "kube", "--kube-api", &url], arguments].concat();
        let agent = Agent::spawn(node, &beside, &arguments).unwrap();
        let cluster = Self { agent, server, _serving: serving, _beside: beside, network, _runtime: runtime };
        cluster.until("the agent is in step", |cluster| {
            cluster.ask(10256, "/healthz").is_some_and(|answer| !answer.body.contains("\"lastUpdated\":\"\""))
        });
        cluster
    }

    pub fn node(&self) -> &Node {
        self.network.node("n1").unwrap()
    }

    /// `None` while nobody answers.
    pub fn ask(&self, port: u16, path: &str) -> Option<Answer> {
        http::get(&self.node().netns, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), path).ok()
    }

    /// The value of a line of `/metrics`; `None` where there is no such line.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.ask(10249, "/metrics")?.body;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    pub fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "not in time: {what}\n{}", self.agent.log_tail());
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn until_metric(&self, name: &str, wanted: f64) {
        self.until(&format!("{name} is {wanted}"), |cluster| cluster.metric(name) == Some(wanted));
    }
}

/// A Service of the namespace `shop` on one port; `spec` is added to it.
pub fn service(name: &str, address: Ipv4Addr, spec: Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "shop", "name": name, "uid": format!("uid-of-{name}")},
        "spec": {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80, "protocol": "TCP"}]},
    });
    if let Value::Object(fields) = spec {
        fields.into_iter().for_each(|(field, value)| service["spec"][field] = value);
    }
    service
}

/// The pod `server` as the endpoint of a Service, on the node of that name; `triggered`: when the change that led to it was
/// made.
pub fn slice(service: &str, node: &str, triggered: Option<&str>) -> Value {
    let mut slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "shop", "name": service, "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [SERVER], "nodeName": node, "conditions": {"ready": true}}],
    });
    if let Some(time) = triggered {
        slice["metadata"]["annotations"] = json!({"endpoints.kubernetes.io/last-change-trigger-time": time});
    }
    slice
}
