//! What can go wrong while a rival is set up.

use std::{io, path::PathBuf, time::Duration};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("network namespace {name} cannot be opened under /run/netns: create it first, and run as root")]
    Namespace {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("{command} cannot be run: `cargo xtask setup` installs iptables, nftables, ipset, ipvsadm and iproute2")]
    Start {
        command: String,
        #[source]
        source: io::Error,
    },
    #[error("{command} in namespace {namespace} failed with {status}: {stderr}")]
    Failed { command: String, namespace: String, status: std::process::ExitStatus, stderr: String },
    #[error(
        "{command} in namespace {namespace} took longer than {limit:?} and was ended: the size is too large for it"
    )]
    TooSlow { command: String, namespace: String, limit: Duration },
    #[error(transparent)]
    Interrupted(#[from] millrace_tests::interrupt::Interrupted),
    #[error("{path} cannot be opened: the cgroup is gone")]
    Account {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no Debian release is unpacked at {root}: it has no dynamic loader in usr/lib")]
    NoTools { root: PathBuf },
    #[error("{command} ended without a report: its watcher is gone")]
    Lost { command: String },
    #[error("{path} in namespace {namespace} cannot be set to {value}")]
    Sysctl {
        path: String,
        namespace: String,
        value: &'static str,
        #[source]
        source: io::Error,
    },
}
