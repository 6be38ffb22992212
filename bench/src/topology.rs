//! What every contestant gets, each one of its own: a node, a client in a pod or outside, and a server pod with as many
//! addresses as services have endpoints, on this node or on another.
//!
//! ```text
//!  pods:     [ client 192.168.1.11 ]--[ node 10.0.0.1 ]--[ server 192.168.1.100, 192.168.3.0/24 ]
//!  outside:  [ client 203.0.113.9 ]--[ router ]--[ node 10.0.0.1 ]--[ server 192.168.1.100, 192.168.3.0/24 ]
//!  through:  [ client 203.0.113.9 ]--[ router ]--[ node 10.0.0.1 ]--[ node 10.0.0.2 ]--[ server 192.168.2.100, 192.168.3.0/24 ]
//! ```

use std::{
    io::{BufRead, BufReader, Lines, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::OnceLock,
};

use anyhow::{Context, Result, ensure};
use millrace_tests::{
    address::{in_family, twin},
    cable::like_a_cable,
    network::{Network, NodeSpec, OUTSIDE},
    node::Node,
    place::{self, Place},
};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use serde::de::DeserializeOwned;

use crate::{
    cluster::{ANSWERING, Clients, ENDPOINTS, TARGET_PORT, answering},
    probe::client::{Target, orders::Order},
};

const CLIENT: (&str, Ipv4Addr) = ("client", Ipv4Addr::new(192, 168, 1, 11));
const SERVER: &str = "server";

pub struct Topology {
    clients: Clients,
    // Processes end before what they live in.
    server: Child,
    network: Network,
}

impl Drop for Topology {
    fn drop(&mut self) {
        end(&mut self.server);
    }
}

impl Topology {
    /// Returns when the server answers.
    pub fn create(clients: Clients) -> Result<Self> {
        let nodes =
            [clients.node(), "n2"].into_iter().zip(1..).map(|(name, number)| NodeSpec { name, zone: "a", number });
        let nodes: Vec<_> = nodes.take(if clients == Clients::Through { 2 } else { 1 }).collect();
        let mut network = Network::create(&nodes)?;
        network.node_mut(clients.node())?.add_pod(CLIENT.0, CLIENT.1)?;
        let node = network.node_mut(clients.endpoints_node())?;
        let [.., number] = node.v4.octets();
        node.add_pod(SERVER, Ipv4Addr::new(192, 168, number, 100))?;
        add_addresses(node)?;
        let server = serve(node)?;
        if clients != Clients::Pods {
            lead_to_addresses(&network, clients)?;
            lay_cables(&network)?;
        }
        Ok(Self { clients, server, network })
    }

    /// The one with the proxy.
    pub fn node(&self) -> Result<&Node> {
        self.network.node(self.clients.node())
    }

    fn client_place(&self) -> Result<Place> {
        Ok(match self.clients {
            Clients::Pods => self.node()?.pod(CLIENT.0)?.place(),
            // In no node's cgroup.
            Clients::Outside | Clients::Through => {
                Place { netns: self.network.outside.handle(), cgroup: place::root()? }
            }
        })
    }

    /// The server's addresses, without a service before them.
    pub fn direct(&self, v6: bool) -> Vec<SocketAddr> {
        let addresses = answering(ENDPOINTS).into_iter();
        addresses.map(|v4| SocketAddr::new(in_family(v4, v6), TARGET_PORT)).collect()
    }

    /// A client that measures these targets.
    pub fn client(&self, targets: &[Target]) -> Result<Client> {
        let mut command = self.client_place()?.command(&own_binary()?)?;
        command.args(["obey", "--cpu", &traffic_cpu()?.to_string(), "--preferred"]);
        command.args(["--server", &self.server.id().to_string()]);
        for target in targets {
            command.arg("--target").arg(target.to_string());
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run the client")?;
        let orders = child.stdin.take().context("no input")?;
        let answers = BufReader::new(child.stdout.take().context("no output")?).lines();
        Ok(Client { child, orders, answers })
    }

    /// Nanoseconds of each of so many whole connections, one after the other, of the client.
    pub fn count(&self, target: SocketAddr, connections: u32) -> Result<Vec<u64>> {
        let mut command = self.client_place()?.command(&own_binary()?)?;
        command.args(["count", "--connections", &connections.to_string(), &target.to_string()]);
        let output = command.output().context("cannot run the client")?;
        ensure!(output.status.success(), "the client failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        serde_json::from_slice(&output.stdout).context("the client's figures")
    }
}

/// A process that does what it is told.
pub struct Client {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Client {
    /// Gives an order and waits for its answer.
    pub fn ask<T: DeserializeOwned>(&mut self, order: Order) -> Result<T> {
        self.tell(order)?;
        self.hear()
    }

    /// Gives an order; its answer is there for [`Client::hear`] when it is carried out.
    pub fn tell(&mut self, order: Order) -> Result<()> {
        let told = writeln!(self.orders, "{}", serde_json::to_string(&order)?);
        // A client that failed says why when it is heard.
        if told.is_ok() { self.orders.flush().context("give an order to the client") } else { Ok(()) }
    }

    pub fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let Some(line) = self.answers.next() else {
            let mut said = String::new();
            if let Some(errors) = self.child.stderr.take() {
                std::io::Read::read_to_string(&mut BufReader::new(errors), &mut said).unwrap_or_default();
            }
            anyhow::bail!("the client failed: {}", said.trim());
        };
        serde_json::from_str(&line.context("the client's answer")?).context("the client's figures")
    }
}

/// It may have ended already.
pub fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// This program: it is also what runs in the pods. The agent lies beside it.
pub fn own_binary() -> Result<PathBuf> {
    std::env::var_os("MILLRACE_BENCH")
        .map_or_else(|| std::env::current_exe().context("where is this program?"), |path| Ok(path.into()))
}

/// All of [`ANSWERING`], behind one neighbour: hundreds of them would overrun the kernel's table.
fn add_addresses(node: &Node) -> Result<()> {
    let pod = node.pod(SERVER)?;
    pod.netns.sysctl(&[("ipv6/ip_nonlocal_bind", "1")])?;
    pod.netns.ip(&[
        format!("route add local {ANSWERING}/24 dev lo"),
        format!("route add local {}/64 dev lo", twin(ANSWERING)),
    ])?;
    node.netns.ip(&[
        format!("route add {ANSWERING}/24 via {} dev {} onlink", pod.v4, pod.device),
        format!("route add {}/64 via {} dev {} onlink", twin(ANSWERING), pod.v6, pod.device),
    ])
}

/// The way to [`ANSWERING`], and back, is by the node with the proxy: without one it is a router, which is what a proxy is
/// held against.
fn lead_to_addresses(network: &Network, clients: Clients) -> Result<()> {
    let (called, home) = (network.node(clients.node())?, network.node(clients.endpoints_node())?);
    let to_pods = |via: &Node| {
        [
            format!("route add {ANSWERING}/24 via {}", via.v4),
            format!("route add {}/64 via {}", twin(ANSWERING), twin(via.v4)),
        ]
    };
    network.router.ip(&to_pods(called))?;
    if called.name == home.name {
        return Ok(());
    }
    called.netns.ip(&to_pods(home))?;
    // It would tell both of the shorter way.
    called.netns.sysctl(&[("ipv4/conf/all/send_redirects", "0"), ("ipv4/conf/uplink/send_redirects", "0")])?;
    home.netns.sysctl(&[("ipv4/conf/all/accept_redirects", "0"), ("ipv6/conf/uplink/accept_redirects", "0")])?;
    network.router.sysctl(&[("ipv6/conf/all/accept_redirects", "0")])?;
    home.netns.ip(&[
        format!("route add {OUTSIDE}/32 via {}", called.v4),
        format!("route add {}/128 via {}", twin(OUTSIDE), twin(called.v4)),
    ])
}

/// Both ends of every uplink: what comes by it has whole checksums, as from a network card, is put together (GRO) for all
/// contestants alike, and what native XDP sends is received.
fn lay_cables(network: &Network) -> Result<()> {
    network.lay_cables()?;
    network.nodes().iter().try_for_each(|node| node.netns.run(|| like_a_cable("uplink"))?)
}

/// Client and server share a processor, the last that this process may use. On two of them an exchange costs whatever
/// waking an idle processor does, twice: on a virtual machine more than the path, and now and then nothing.
fn traffic_cpu() -> Result<usize> {
    static CHOSEN: OnceLock<usize> = OnceLock::new();
    if let Some(cpu) = CHOSEN.get() {
        return Ok(*cpu);
    }
    let allowed = allowed()?;
    let last = (0..CpuSet::count()).rev().find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let last = last.context("no processor to run on")?;
    Ok(*CHOSEN.get_or_init(|| last))
}

/// Leaves the traffic its processor, if there is another: whatever this thread starts from now on, agents and rivals' tools
/// included, runs elsewhere. There they would wait for a client that never pauses, and a proxy look slow that had not been
/// told yet.
///
/// # Errors
/// The kernel's.
pub fn stand_aside() -> Result<()> {
    let traffic = traffic_cpu()?;
    let mut others = allowed()?;
    others.unset(traffic)?;
    if (0..CpuSet::count()).any(|cpu| others.is_set(cpu).unwrap_or(false)) {
        sched_setaffinity(Pid::from_raw(0), &others).context("leave the traffic's processor")?;
    }
    Ok(())
}

fn allowed() -> Result<CpuSet> {
    sched_getaffinity(Pid::from_raw(0)).context("which processors are there?")
}

fn serve(node: &Node) -> Result<Child> {
    let mut command = node.pod(SERVER)?.command(&own_binary()?)?;
    command.args(["serve", "--port", &TARGET_PORT.to_string()]).stdout(Stdio::piped());
    command.args(["--cpu", &traffic_cpu()?.to_string(), "--preferred"]);
    for v4 in answering(ENDPOINTS) {
        for address in [IpAddr::from(v4), twin(v4).into()] {
            command.args(["--address", &address.to_string()]);
        }
    }
    let mut child = command.spawn().context("cannot run the server")?;
    let mut ready = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut ready)?;
    ensure!(ready.trim() == "ready", "the server did not start");
    Ok(child)
}
