//! The API server that a test runs against: the double, or a real one where `MILLRACE_TEST_KUBECONFIG` names one.

use std::{env, process, time::Duration};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use millrace_agent::watch::kube::Connection;
use serde_json::{Value, json};

use super::{ApiServerDouble, Kind};

pub enum Server {
    Double(ApiServerDouble),
    /// With a namespace of the test's own.
    Real {
        config: Box<Config>,
        client: Client,
        namespace: String,
    },
}

impl Server {
    /// Each server that is at hand, the double first.
    ///
    /// # Panics
    ///
    /// When the real one that is named cannot be used.
    pub async fn all(test: &str) -> Vec<Self> {
        let mut servers = vec![Self::Double(ApiServerDouble::start().await)];
        let Some(path) = env::var_os("MILLRACE_TEST_KUBECONFIG") else {
            println!("{test}: on the double; MILLRACE_TEST_KUBECONFIG names no real API server to run on as well");
            return servers;
        };
        let kubeconfig = Kubeconfig::read_from(path).expect("MILLRACE_TEST_KUBECONFIG names a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        let config = config.expect("MILLRACE_TEST_KUBECONFIG names a kubeconfig with a context");
        let client = Client::try_from(config.clone()).expect("a client for the API server under test");
        let namespace = format!("millrace-{test}-{}", process::id()).replace('_', "-");
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).expect("a namespace");
        Api::all(client.clone()).create(&Default::default(), &object).await.expect("a namespace for the test");
        servers.push(Self::Real { config: Box::new(config), client, namespace });
        servers
    }

    /// Where the test's objects live.
    #[must_use]
    pub fn namespace(&self) -> &str {
        match self {
            Self::Double(_) => "shop",
            Self::Real { namespace, .. } => namespace,
        }
    }

    /// # Panics
    ///
    /// When the server's URL is none.
    #[must_use]
    pub fn connection(&self, idle: Duration) -> Connection {
        let config = match self {
            Self::Double(double) => Config::new(double.url().parse().expect("the double's URL")),
            Self::Real { config, .. } => *config.clone(),
        };
        Connection::from_config(config, idle).expect("a client for the API server under test")
    }

    /// Creates or replaces; a real server allocates the ClusterIPs itself.
    ///
    /// # Panics
    ///
    /// When the server refuses.
    pub async fn apply(&self, mut object: Value) {
        match self {
            Self::Double(double) => double.apply(object),
            Self::Real { .. } => {
                let kind = Kind::of(&object).expect("a kind under test");
                if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
                    && spec.get("clusterIP").is_some_and(|address| address != "None")
                {
                    spec.retain(|field, _| field != "clusterIP" && field != "clusterIPs");
                }
                let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
                let patch = Patch::Apply(object);
                let params = PatchParams::apply("millrace-test").force();
                self.api(kind).patch(&name, &params, &patch).await.expect("the server takes the object");
            }
        }
    }

    /// # Panics
    ///
    /// When the server refuses.
    pub async fn delete(&self, kind: Kind, name: &str) {
        match self {
            Self::Double(double) => double.delete(kind, &format!("{}/{name}", self.namespace())),
            Self::Real { .. } => {
                self.api(kind).delete(name, &DeleteParams::default()).await.expect("the server deletes the object");
            }
        }
    }

    /// The test's objects, as the server has them.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub async fn objects(&self, kind: Kind) -> Vec<Value> {
        match self {
            Self::Double(double) => double.objects(kind),
            Self::Real { .. } => {
                let list = self.api(kind).list(&ListParams::default()).await.expect("the server lists");
                list.items.iter().map(|object| serde_json::to_value(object).expect("objects are JSON")).collect()
            }
        }
    }

    /// Removes the test's traces.
    ///
    /// # Panics
    ///
    /// When the server refuses.
    pub async fn clean(self) {
        if let Self::Real { client, namespace, .. } = self {
            let namespaces: Api<Namespace> = Api::all(client);
            drop(namespaces.delete(&namespace, &DeleteParams::default()).await.expect("the namespace is deleted"));
        }
    }

    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        let Self::Real { client, namespace, .. } = self else { unreachable!("the double is asked directly") };
        let (group, version) = kind.api_version().rsplit_once('/').unwrap_or(("", kind.api_version()));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind.name()));
        Api::namespaced_with(client.clone(), namespace, &resource)
    }
}
