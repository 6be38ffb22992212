//! One node, an agent on it that watches an API server double, a client pod and a pod with ten addresses.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, Map, MapData};
use millrace_agent::{
    datapath::{Pins, snapshot, status},
    lb::Family,
};
use millrace_common::service::ServiceRecord;
use millrace_tests::{
    address::{in_family, twin},
    apiserver::ApiServerDouble,
    interrupt,
    network::{Network, NodeSpec},
};
use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};

use crate::{
    cluster::{self, Families},
    probe::client::{Operation, Samples, Target},
};

const NODE: &str = "n1";
const CLIENT: (&str, Ipv4Addr) = ("client", Ipv4Addr::new(192, 168, 1, 11));
const SERVER: (&str, Ipv4Addr) = ("server", Ipv4Addr::new(192, 168, 1, 100));
const METRICS: &str = "127.0.0.1:10249";
/// Emulated or busy machines are slow; nothing here takes that long on a free one.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) struct Node {
    pub(super) services: u32,
    pub(super) families: Families,
    pub(super) api: ApiServerDouble,
    pub(super) programming_seconds: f64,
    pub(super) start_seconds: f64,
    // Processes end before what they live in.
    agent: Child,
    server: Child,
    network: Network,
}

impl Drop for Node {
    fn drop(&mut self) {
        for child in [&mut self.agent, &mut self.server] {
            // Either may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A set word of one service, read from the pinned map.
pub(super) struct Word {
    records: Array<MapData, ServiceRecord>,
    index: u32,
}

impl Word {
    pub(super) fn read(&self) -> Result<u64> {
        Ok(self.records.get(&self.index, 0).context("read SERVICES")?.cluster)
    }
}

impl Node {
    /// Returns when all services are in the maps.
    pub(super) fn start(services: u32, families: Families) -> Result<Self> {
        let mut network = Network::create(&[NodeSpec { name: NODE, zone: "a", number: 1 }])?;
        let node = network.node_mut(NODE)?;
        node.add_pod(CLIENT.0, CLIENT.1)?;
        node.add_pod(SERVER.0, SERVER.1)?;
        add_addresses(node)?;
        let server = serve(node)?;
        let api = api_server(&network)?;
        fill(&api, services, families);
        let start = Instant::now();
        let agent = start_agent(&network, &api, services, families)?;
        let mut node =
            Self { services, families, api, programming_seconds: 0.0, start_seconds: 0.0, agent, server, network };
        node.wait_until_programmed()?;
        node.start_seconds = start.elapsed().as_secs_f64();
        node.programming_seconds = node.metric("kubeproxy_sync_proxy_rules_duration_seconds_sum")?;
        Ok(node)
    }

    /// Labels and numbers of the services that clients call: the first, the middle and the last.
    pub(super) fn measured(&self) -> Vec<(&'static str, u32)> {
        measured(self.services)
    }

    pub(super) fn endpoints(&self, family: Family) -> Vec<IpAddr> {
        endpoints().into_iter().map(|v4| in_family(v4, family == Family::V6)).collect()
    }

    /// Endpoints of service `i` in the first of the families.
    pub(super) fn endpoints_of(&self, i: u32) -> Vec<IpAddr> {
        let family = self.families.each()[0];
        endpoints_of(self.services, i).into_iter().map(|v4| in_family(v4, family == Family::V6)).collect()
    }

    /// One run of the client in its pod.
    pub(super) fn measure(&mut self, operation: Operation, targets: &[Target], rounds: u32) -> Result<Samples> {
        let operation = match operation {
            Operation::Connect => "connect",
            Operation::Datagram => "datagram",
        };
        let mut command = self.network.node(NODE)?.pod(CLIENT.0)?.command(&own_binary()?)?;
        command.args(["measure", "--operation", operation, "--rounds", &rounds.to_string()]);
        command.args(["--cpu", &traffic_cpu()?.to_string()]);
        for target in targets {
            command.arg("--target").arg(target.to_string());
        }
        let output = command.output().context("cannot run the client")?;
        ensure!(output.status.success(), "the client failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        serde_json::from_slice(&output.stdout).context("the client's figures")
    }

    /// Resident memory of the agent, and its anonymous part, in MiB.
    pub(super) fn memory_mib(&self) -> Result<[f64; 2]> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.agent.id()))?;
        let mib = |field: &str| -> Result<f64> {
            let line =
                status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
            let kib: f64 = line.split_whitespace().next().context("no number")?.parse()?;
            Ok(kib / 1024.0)
        };
        Ok([mib("VmRSS:")?, mib("RssAnon:")?])
    }

    pub(super) fn maps_mib(&self) -> Result<f64> {
        Ok(status(&self.pins()?)?.maps.iter().map(|map| map.mib).sum())
    }

    /// The cluster word of service `i`'s TCP port, in the first of the families.
    pub(super) fn word_of(&self, i: u32) -> Result<Word> {
        let pins = self.pins()?;
        let family = self.families.each()[0].name();
        let name = format!("{}/{}:http/TCP/{family}", cluster::NAMESPACE, cluster::name(i));
        let names = snapshot(&pins)?.names;
        let (index, _) =
            names.iter().find(|(_, n)| **n == name).with_context(|| format!("{name} is not programmed"))?;
        let records = Map::from_map_data(MapData::from_pin(pins.map("SERVICES"))?)?;
        Ok(Word { records: records.try_into()?, index: *index })
    }

    fn pins(&self) -> Result<Pins> {
        Ok(Pins::at(&self.network.node(NODE)?.bpffs.path))
    }

    /// A record in each family for a service, and another for each that has a UDP port.
    fn wait_until_programmed(&mut self) -> Result<()> {
        let wanted = (self.families.each().len() * (self.services as usize + self.measured().len())) as f64;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let used = self.metric("millrace_map_used{map=\"SERVICES\"}").unwrap_or(0.0);
            if used >= wanted {
                return Ok(());
            }
            if let Some(status) = self.agent.try_wait()? {
                bail!("the agent has ended ({status}); its log is above");
            }
            ensure!(Instant::now() < deadline, "{used} of {wanted} service ports programmed after {PATIENCE:?}");
            interrupt::pause(Duration::from_millis(20))?;
        }
    }

    fn metric(&self, name: &str) -> Result<f64> {
        let text = self.network.node(NODE)?.netns.run(|| http_get(METRICS, "/metrics"))??;
        let line = text.lines().find(|line| line.starts_with(name)).with_context(|| format!("no metric {name}"))?;
        Ok(line.rsplit(' ').next().context("no value")?.parse()?)
    }
}

fn measured(services: u32) -> Vec<(&'static str, u32)> {
    match services {
        1 => vec![("only service", 0)],
        n => vec![("first service", 0), ("middle service", n / 2), ("last service", n - 1)],
    }
}

fn is_measured(services: u32, i: u32) -> bool {
    measured(services).iter().any(|(_, measured)| *measured == i)
}

fn endpoints_of(services: u32, i: u32) -> Vec<Ipv4Addr> {
    if is_measured(services, i) { endpoints() } else { cluster::absent_endpoints(i) }
}

fn endpoints() -> Vec<Ipv4Addr> {
    let [a, b, c, d] = SERVER.1.octets();
    (0..cluster::ENDPOINTS as u8).map(|k| Ipv4Addr::new(a, b, c, d + k)).collect()
}

/// The server pod answers to as many addresses as a service has endpoints.
fn add_addresses(node: &millrace_tests::node::Node) -> Result<()> {
    let pod = node.pod(SERVER.0)?;
    for v4 in endpoints().into_iter().skip(1) {
        let v6: Ipv6Addr = twin(v4);
        pod.netns.ip(&[format!("address add {v4}/32 dev eth0"), format!("address add {v6}/128 dev eth0 nodad")])?;
        node.netns.ip(&[
            format!("route add {v4}/32 dev {} scope link", pod.device),
            format!("route add {v6}/128 dev {}", pod.device),
        ])?;
    }
    Ok(())
}

/// Client and server share a processor, the last that this process may use. On two of them an exchange costs whatever
/// waking an idle processor does, twice: on a virtual machine more than the path, and now and then nothing.
fn traffic_cpu() -> Result<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("which processors are there?")?;
    (0..CpuSet::count()).rev().find(|cpu| allowed.is_set(*cpu).unwrap_or(false)).context("no processor to run on")
}

fn serve(node: &millrace_tests::node::Node) -> Result<Child> {
    let mut command = node.pod(SERVER.0)?.command(&own_binary()?)?;
    command.args(["serve", "--port", &cluster::TARGET_PORT.to_string()]).stdout(Stdio::piped());
    command.args(["--cpu", &traffic_cpu()?.to_string()]);
    for v4 in endpoints() {
        command.args(["--address", &v4.to_string(), "--address", &twin(v4).to_string()]);
    }
    let mut child = command.spawn().context("cannot run the server")?;
    let mut ready = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut ready)?;
    ensure!(ready.trim() == "ready", "the server did not start");
    Ok(child)
}

/// In the node's namespace, on a thread of its own: the agent reaches it over loopback.
fn api_server(network: &Network) -> Result<ApiServerDouble> {
    let handle = network.node(NODE)?.netns.handle();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || -> Result<()> {
        nix::sched::setns(handle, nix::sched::CloneFlags::CLONE_NEWNET).context("enter the node's namespace")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            // Nobody listens any more: the bench has failed, and says so elsewhere.
            let _ = sender.send(ApiServerDouble::start().await);
            // The thread ends with the process.
            std::future::pending::<()>().await;
        });
        Ok(())
    });
    receiver.recv().context("the API server double did not start")
}

fn fill(api: &ApiServerDouble, services: u32, families: Families) {
    for i in 0..services {
        let v4 = endpoints_of(services, i);
        api.apply(cluster::service(i, is_measured(services, i), families));
        for &family in families.each() {
            let endpoints: Vec<IpAddr> = v4.iter().map(|v4| in_family(*v4, family == Family::V6)).collect();
            api.apply(cluster::slice(i, &endpoints));
        }
    }
}

fn start_agent(network: &Network, api: &ApiServerDouble, services: u32, families: Families) -> Result<Child> {
    let node = network.node(NODE)?;
    let mut command: Command = node.place().command(&own_binary()?.with_file_name("millrace-agent"))?;
    command.args(["run", "--node-name", NODE, "--zone", "a", "--source", "kube", "--kube-api", &api.url()]);
    for address in node.addresses() {
        command.args(["--node-ip", &address.to_string()]);
    }
    command.arg("--cgroup-root").arg(&node.cgroup.path).arg("--bpffs").arg(&node.bpffs.path);
    for cidr in cluster::SERVICE_CIDRS {
        command.args(["--service-cidr", cidr]);
    }
    // Room for all families' records and endpoints, whose blocks have a power of two of slots, at the default where that
    // suffices.
    let ports = services * families.each().len() as u32;
    let records = (ports + 64).max(millrace_common::maps::SERVICES);
    let backends = (ports * cluster::ENDPOINTS.next_power_of_two() + 64).max(millrace_common::maps::BACKENDS);
    command.args(["--max-services", &records.to_string(), "--max-backends", &backends.to_string()]);
    command.args(["--metrics-addr", METRICS, "--health-addr", "127.0.0.1:10256"]);
    command.spawn().context("cannot run millrace-agent")
}

fn own_binary() -> Result<PathBuf> {
    std::env::current_exe().context("where is this program?").map(|path| Path::new(&path).to_owned())
}

fn http_get(address: &str, path: &str) -> Result<String> {
    use std::{io::Read, io::Write, net::TcpStream};
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
