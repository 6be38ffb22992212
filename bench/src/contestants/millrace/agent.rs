//! The agent's process, what it says of itself, and the API server that it watches.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command},
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result, ensure};
use millrace_tests::{apiserver::ApiServerDouble, node::Node};

use tokio::sync::oneshot;

use crate::{
    cluster::{self, Cluster},
    topology::own_binary,
};

const METRICS: &str = "127.0.0.1:10249";

/// An API server double in a node's namespace, where the agent reaches it over loopback. Its thread ends with it.
pub(super) struct ApiServer {
    pub(super) double: ApiServerDouble,
    _alive: oneshot::Sender<()>,
}

impl ApiServer {
    pub(super) fn start(node: &Node) -> Result<Self> {
        let handle = node.netns.handle();
        let (sender, receiver) = mpsc::channel();
        let (alive, gone) = oneshot::channel();
        thread::spawn(move || -> Result<()> {
            nix::sched::setns(handle, nix::sched::CloneFlags::CLONE_NEWNET).context("enter the node's namespace")?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                // Nobody listens any more: the bench has failed, and says so elsewhere.
                let _ = sender.send(ApiServerDouble::start().await);
                // An error is the end of the sender, which is what is waited for.
                let _ = gone.await;
            });
            Ok(())
        });
        let double = receiver.recv().context("the API server double did not start")?;
        Ok(Self { double, _alive: alive })
    }
}

pub(super) fn start(node: &Node, api: &str, cluster: &Cluster, arguments: &[&str]) -> Result<Child> {
    let mut command: Command = node.place().command(&own_binary()?.with_file_name("millrace-agent"))?;
    command.args(["run", "--node-name", cluster.clients.node(), "--zone", "a", "--source", "kube", "--kube-api", api]);
    command.args(arguments);
    for address in node.addresses() {
        command.args(["--node-ip", &address.to_string()]);
    }
    command.arg("--cgroup-root").arg(&node.cgroup.path).arg("--bpffs").arg(&node.bpffs.path);
    for cidr in cluster::SERVICE_CIDRS {
        command.args(["--service-cidr", cidr]);
    }
    // Room for all families' records and endpoints, whose blocks have a power of two of slots, at the default where that
    // suffices.
    let ports = cluster.services * cluster.families.each().len() as u32;
    let records = (ports + 64).max(millrace_common::maps::SERVICES);
    let backends = (ports * cluster::ENDPOINTS.next_power_of_two() + 64).max(millrace_common::maps::BACKENDS);
    command.args(["--max-services", &records.to_string(), "--max-backends", &backends.to_string()]);
    command.args(["--metrics-addr", METRICS, "--health-addr", "127.0.0.1:10256"]);
    // What it says at every start stands in the report, where it matters.
    command.env("RUST_LOG", "warn,notify=error");
    command.spawn().context("cannot run millrace-agent")
}

/// One of the agent's metrics, by the beginning of its line.
pub(super) fn metric(node: &Node, name: &str) -> Result<f64> {
    let text = node.netns.run(|| http_get(METRICS, "/metrics"))??;
    let line = text.lines().find(|line| line.starts_with(name)).with_context(|| format!("no metric {name}"))?;
    Ok(line.rsplit(' ').next().context("no value")?.parse()?)
}

fn http_get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Takes programs and maps out of the kernel.
pub(super) fn cleanup(node: &Node) -> Result<()> {
    let mut command = node.place().command(&own_binary()?.with_file_name("millrace-agent"))?;
    command.arg("cleanup").arg("--bpffs").arg(&node.bpffs.path);
    let output = command.output().context("cannot run millrace-agent cleanup")?;
    ensure!(output.status.success(), "millrace-agent cleanup: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
