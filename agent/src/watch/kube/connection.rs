//! How the API server is reached: by which URL, with which credentials, and with which patience.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use http::{Uri, uri::InvalidUri};
use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tower::util::MapResponseLayer;

use super::retry_after::RetryAfter;
use crate::watch::WatchError;

/// A server says something at least this often: a watch carries a bookmark about once a minute. After that much silence
/// a connection counts as dead.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Where kubelets keep their kubeconfig: EKS, kubeadm, Bottlerocket.
const KUBELET_KUBECONFIGS: [&str; 3] =
    ["/var/lib/kubelet/kubeconfig", "/etc/kubernetes/kubelet.conf", "/etc/kubernetes/kubelet/kubeconfig"];

/// A way to the API server.
#[derive(Clone)]
pub struct Connection {
    pub(super) client: Client,
    /// What the server asked of us when it was overloaded.
    pub(super) retry_after: RetryAfter,
    pub(super) url: String,
}

impl Connection {
    /// Credentials come from the kubeconfig in `KUBECONFIG`, else from the pod's service account, else from
    /// `~/.kube/config`. The URL is `kube_api`, else `CLUSTER_ENDPOINT`, else the one of the kubeconfig or, in a pod, of
    /// the node's kubelet: the address in a pod's environment is a ClusterIP, which nobody serves before this agent does.
    ///
    /// Nothing is sent yet. After `idle` without a byte, a request or a watch is given up and made anew.
    ///
    /// # Errors
    ///
    /// Which of these makes no sense, and what to do about it.
    pub async fn new(kube_api: Option<&str>, idle: Duration) -> Result<Self, WatchError> {
        let endpoint = env::var("CLUSTER_ENDPOINT").ok().filter(|url| !url.is_empty());
        let kube_api = kube_api.map(str::to_owned).or(endpoint);
        let mut config = credentials(kube_api.as_deref()).await?;
        if let Some(url) = kube_api {
            config.cluster_url = parse(&url)?;
        }
        Self::from_config(config, idle)
    }

    /// The same, from URL and credentials that are known.
    ///
    /// # Errors
    ///
    /// Certificates or credentials of which no client can be made.
    pub fn from_config(mut config: Config, idle: Duration) -> Result<Self, WatchError> {
        config.read_timeout = Some(idle);
        config.reset_reader_on_write = true;
        // Failures are paced and counted by the watches: these retries would hide minutes of them.
        config.default_retry = false;

        let url = config.cluster_url.to_string();
        let retry_after = RetryAfter::default();
        let asked = retry_after.clone();
        let client = ClientBuilder::try_from(config)
            .map_err(|source| WatchError::Client { url: url.clone(), source: Box::new(source) })?
            .with_layer(&MapResponseLayer::new(move |response| asked.note(response)))
            .build();
        Ok(Self { client, retry_after, url })
    }

    /// For log lines.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

async fn credentials(kube_api: Option<&str>) -> Result<Config, WatchError> {
    let named = env::var_os("KUBECONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    let in_cluster = match Config::incluster() {
        Ok(mut config) if named.is_none() => {
            if let Some(url) = from_kubelet(&KUBELET_KUBECONFIGS) {
                config.cluster_url = parse(&url)?;
            }
            return Ok(config);
        }
        other => other.err(),
    };
    match (Config::from_kubeconfig(&KubeConfigOptions::default()).await, named) {
        (Ok(config), _) => Ok(config),
        (Err(source), Some(path)) => Err(WatchError::Kubeconfig { path, source: Box::new(source) }),
        (Err(KubeconfigError::ReadConfig(..) | KubeconfigError::FindPath), None) => match (kube_api, in_cluster) {
            (None, Some(source)) => Err(WatchError::NoApiServer { source: Box::new(source) }),
            (url, _) => Ok(Config::new(parse(url.unwrap_or_default())?)),
        },
        (Err(source), None) => Err(WatchError::Kubeconfig { path: "~/.kube/config".into(), source: Box::new(source) }),
    }
}

/// The server that this node's kubelet talks to, if its kubeconfig can be read.
fn from_kubelet(paths: &[impl AsRef<Path>]) -> Option<String> {
    paths.iter().find_map(|path| {
        let kubeconfig = Kubeconfig::read_from(path).ok()?;
        kubeconfig.clusters.into_iter().find_map(|named| named.cluster?.server)
    })
}

/// A URL that says how to talk and to whom.
fn parse(url: &str) -> Result<Uri, WatchError> {
    let wrong = |source| WatchError::Url { url: url.to_owned(), source };
    let uri: Uri = url.parse().map_err(|source: InvalidUri| wrong(source.into()))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("https" | "http"), Some(_)) => Ok(uri),
        (None | Some("https" | "http"), _) => Err(wrong("it has no scheme or no host".into())),
        (Some(scheme), _) => Err(wrong(format!("{scheme} is not spoken").into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelet_is_asked_for_the_server_that_it_talks_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubelet.conf");
        std::fs::write(
            &path,
            "apiVersion: v1\nkind: Config\nclusters:\n- name: a\n  cluster: {server: https://api.example:6443}\n",
        )
        .unwrap();
        assert_eq!(
            from_kubelet(&[directory.path().join("missing"), path]).as_deref(),
            Some("https://api.example:6443")
        );
        assert_eq!(from_kubelet(&[directory.path()]), None);
    }

    #[tokio::test]
    async fn a_client_is_made_for_a_server_that_speaks_tls_as_in_a_pod() {
        let directory = tempfile::tempdir().unwrap();
        let token = directory.path().join("token");
        std::fs::write(&token, "a-token").unwrap();
        let mut config = Config::new(parse("https://192.0.2.1:6443").unwrap());
        config.auth_info.token_file = Some(token.to_str().unwrap().to_owned());
        let connection = Connection::from_config(config, IDLE_TIMEOUT).map_err(|error| error.to_string());
        assert_eq!(connection.map(|connection| connection.url().to_owned()), Ok("https://192.0.2.1:6443/".to_owned()));
    }

    #[test]
    fn a_url_that_is_none_is_named_with_what_to_write() {
        for url in ["not a url", "", "api.example", "api.example:6443", "ftp://api.example", "/healthz"] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(url) && error.contains("--kube-api"), "{error}");
        }
    }
}
