//! Why a source cannot start. Once it runs, a source does not fail: it reports, keeps what it knows and tries again.

use std::{io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("`{value}` is no source: write `kube` (the API server) or `dir:PATH` (a directory of manifests)")]
    Source { value: String },
    #[error("manifest directory {}: {source}; create it, make it readable for the agent, or name another with --source dir:PATH", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error(
        "manifest directory {}: cannot be watched: {source}; if a limit is reached, raise fs.inotify.max_user_watches \
         and fs.inotify.max_user_instances with sysctl",
        path.display()
    )]
    Inotify { path: PathBuf, source: Box<notify::Error> },
    #[error("API server URL {url:?}: {source}; write --kube-api https://HOST:PORT")]
    Url { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("kubeconfig {}: {source}; mend it or name another in KUBECONFIG", path.display())]
    Kubeconfig { path: PathBuf, source: Box<kube::config::KubeconfigError> },
    #[error(
        "no API server is known ({source}); run in a pod with a service account, or name a kubeconfig in KUBECONFIG, or \
         give --kube-api URL"
    )]
    NoApiServer { source: Box<kube::config::InClusterError> },
    #[error("API server {url}: no client can be made for it: {source}; check its certificates and credentials")]
    Client { url: String, source: Box<kube::Error> },
}
