//! A source on a directory, and manifests to put there.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use millrace_agent::watch::{Output, Settings, dir};
use millrace_tests::view::View;
use tempfile::TempDir;

/// Long enough for an event that should not come to come.
pub const QUIET: Duration = Duration::from_millis(150);

pub struct Source {
    pub view: View,
    /// Holds `manifests`.
    pub above: TempDir,
}

impl Source {
    /// Starts on a directory that `fill` has prepared.
    pub async fn start(fill: impl FnOnce(&Path)) -> Self {
        let above = tempfile::tempdir().unwrap();
        let root = above.path().join("manifests");
        fs::create_dir(&root).unwrap();
        fill(&root);
        let (mut view, output) = View::new();
        spawn(root, output);
        view.until_synced().await;
        Self { view, above }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.above.path().join("manifests").join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub async fn until_services(&mut self, names: &[&str]) {
        self.view.until(&format!("the services are {names:?}"), |view| view.service_names() == names).await;
    }

    pub async fn until_cluster_ip(&mut self, service: &str, address: &str) {
        self.view
            .until(&format!("{service} has {address}"), |view| view.cluster_ip(service).as_deref() == Some(address))
            .await;
    }
}

pub fn spawn(root: PathBuf, output: Output) {
    let settings = Settings { node_name: "n1".to_owned(), proxy_name: None };
    tokio::spawn(async move { dir::run(&root, &settings, &output).await.unwrap() });
}

pub fn service(name: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: shop\nspec:\n  clusterIP: {address}\n  \
         clusterIPs: [{address}]\n  ports:\n  - port: 80\n    protocol: TCP\n"
    )
}

pub fn slice(name: &str, service: &str, endpoints: &[&str]) -> String {
    let endpoints: String = endpoints
        .iter()
        .map(|address| format!("- addresses: [{address}]\n  conditions: {{ready: true}}\n  nodeName: n1\n"))
        .collect();
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  namespace: shop\n  labels:\n    \
         kubernetes.io/service-name: {service}\naddressType: IPv4\nports:\n- {{name: '', port: 8080, protocol: TCP}}\n\
         endpoints:\n{endpoints}"
    )
}
