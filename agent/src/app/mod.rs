//! Joins the stages: sources and devices on one side, the maps on the other, the decision loop between them.

mod config;
mod decide;
mod devices;
mod doubts;
mod findings;
mod health_checks;
mod own_addresses;
mod per_packet;
mod pipeline;
mod serve;
mod settling;

use std::{future::pending, path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch as latest},
};
use tracing::{info, warn};

pub use self::config::Config;
pub use self::pipeline::{Pipeline, Round};
use crate::{
    datapath::{
        self, Attacher, Constants, Forgetful, KernelTables, OwnAddressTables, PacketTables, SnatPorts, XdpAttacher,
        reserved_ports,
    },
    diff::{ChosenPods, Planner},
    health::Health,
    lb::OwnAddresses,
    metrics::Metrics,
    watch::{self, Output, Settings, Source, dir, kube},
};

/// Changes that a source may be ahead of the decision loop.
const AHEAD: usize = 1024;

/// Runs the agent until SIGTERM or SIGINT. The data path stays when it ends.
///
/// # Errors
/// Whatever keeps it from starting, with the object and the remedy.
pub fn run(config: &Config) -> Result<()> {
    one_heap_per_worker();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // The decision loop runs on this thread: its system calls keep no source waiting.
    runtime.block_on(agent(config))
}

async fn agent(config: &Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = work(config) => result,
        _ = terminate.recv() => {
            info!("SIGTERM: the data path goes on without the agent");
            Ok(())
        }
        _ = interrupt.recv() => {
            info!("SIGINT: the data path goes on without the agent");
            Ok(())
        }
    }
}

async fn work(config: &Config) -> Result<()> {
    config.check()?;
    datapath::probe()?;
    let cgroup = datapath::cgroup::root(config.cgroup_root.as_deref())?;
    let origin = Origin::open(config).await?;
    config.pins.check_free()?;
    datapath::cgroup::check_alone(&cgroup, &config.pins)?;
    // A second agent has been told of the first by now, not of its port.
    let listeners = serve::Listeners::bind(config.health_addr, config.metrics_addr).await?;
    let _lock = config.pins.open()?;
    let mut loaded = datapath::load(&config.pins, &config.limits, &constants(config)?)?;
    let grace = datapath::grace::start().context("the kernel offers no grace period")?;
    let mut own = OwnAddressTables::open(&config.pins, grace.clone())?;
    // The first programs over these maps: until the Node object is known they go by the routes.
    if matches!(own.held(), OwnAddresses { v4: None, v6: None, .. }) {
        own.apply(&config.own_addresses())?;
    }
    datapath::cgroup::attach(&mut loaded.ebpf, &cgroup, &config.pins)?;
    let SnatPorts { first, last } = config.snat_ports;
    reserved_ports::reserve(&config.pins, &[first..=last, reserved_ports::NODE_PORTS])?;
    let attacher = Attacher::new(config.pins.clone(), config.tc);
    let xdp = XdpAttacher::new(config.pins.clone(), config.xdp);

    let (device_events, heard) = mpsc::channel(AHEAD);
    let changes = datapath::RouteChanges::open(&config.pins)?;
    let (known, own_changed) = latest::channel(own_addresses::ones(own.held()));
    let listening = tokio::spawn(datapath::netlink::listen(config.selection(), changes, own_changed, device_events));
    let mut devices = devices::Devices::new(loaded, attacher, xdp, heard);
    let addresses = devices.attach_all().await?;
    for device in config.devices.iter().filter(|device| !datapath::host::has_device(device)) {
        warn!(device, "no device has this name (--device): it is attached to when it appears");
    }
    let (told, addresses_changed) = latest::channel(addresses.clone());
    let (health, metrics) = (Arc::new(Health::default()), Metrics::new());
    let routing = devices.host_routing(&config.pins, config.host_routing)?;
    let flows = devices::Flows::new(&config.limits, config.snat_ports, Forgetful::open(&config.pins)?, metrics.clone());
    let attaching = tokio::spawn(devices.follow(told, flows, routing));

    let tables = KernelTables::open(&config.pins, grace)?;
    let planner = Planner::restore(&datapath::snapshot(&config.pins)?, config.limits.sizes());
    let (changes, incoming) = mpsc::channel(AHEAD);
    let source_health = Arc::<watch::Health>::default();
    let settings = Settings { node_name: config.node.clone(), proxy_name: config.proxy_name.clone() };
    let (warn, warnings) = mpsc::channel(AHEAD);
    let events = origin.write_events(&config.node, warnings);
    let source = origin.follow(settings, Output::new(changes, Arc::clone(&source_health)));
    let node = config.node(addresses.all.clone());
    let mut pipeline = Pipeline::new(node, config.service_cidrs.iter().copied(), planner, tables);
    pipeline.restore_own(own.held().clone());
    pipeline.set_addresses(addresses);
    let (checks, asked) = latest::channel(health_checks::HealthChecks::new());
    let (choose, chosen) = latest::channel(ChosenPods::default());
    let watching = Arc::clone(&source_health);
    let own = own_addresses::Telling::new(own, known);
    let told = decide::Told { own, checks, chosen: choose, warnings: warn };
    let decide = decide::Loop::new(pipeline, config.sync_timeout, Arc::clone(&health), metrics.clone(), watching, told);
    let answering = health_checks::serve(asked, Arc::clone(&health));
    let excluded = PacketTables::open(&config.pins)?;
    let excluding = async {
        // Without, the socket hooks leave every pod alone.
        if config.socket_lb || config.socket_lb_udp {
            per_packet::follow(chosen, cgroup, excluded).await
        } else {
            pending().await
        }
    };
    tokio::spawn(events);
    tokio::select! {
        result = source => result,
        never = listeners.serve(health, &metrics, &config.pins, source_health) => match never {},
        () = answering => Ok(()),
        result = excluding => result,
        result = listening => result?.context("cannot follow the node's devices through rtnetlink"),
        result = attaching => result?,
        () = decide.run(incoming, addresses_changed) => Ok(()),
    }
}

/// A source that can be asked: what makes no sense of the configuration has been said by then.
enum Origin {
    Directory(PathBuf),
    Kube(Box<kube::Connection>),
}

impl Origin {
    /// Touches nothing.
    async fn open(config: &Config) -> Result<Self> {
        Ok(match &config.source {
            Source::Directory(path) => {
                dir::check(path)?;
                Self::Directory(path.clone())
            }
            Source::Kube => {
                let connection = kube::Connection::new(config.kube_api.as_deref(), kube::IDLE_TIMEOUT).await?;
                Self::Kube(Box::new(connection))
            }
        })
    }

    /// Ends when nobody warns any more; at once where there is nobody to tell.
    fn write_events(
        &self,
        node: &str,
        warnings: mpsc::Receiver<watch::Warning>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let connection = match self {
            Self::Directory(_) => None,
            Self::Kube(connection) => Some(kube::Connection::clone(connection)),
        };
        let node = node.to_owned();
        async move {
            if let Some(connection) = connection {
                kube::write_events(connection, &node, warnings).await;
            }
        }
    }

    /// Ends only with an error: sources go on for ever.
    async fn follow(self, settings: Settings, output: Output) -> Result<()> {
        match self {
            Self::Directory(path) => Ok(dir::run(&path, &settings, &output).await?),
            Self::Kube(connection) => {
                kube::run(&connection, &settings, &output).await;
                Ok(())
            }
        }
    }
}

fn constants(config: &Config) -> Result<Constants> {
    Ok(Constants {
        host_netns_cookie: datapath::host::netns_cookie()
            .context("the kernel names no network namespaces (SO_NETNS_COOKIE, Linux 5.14)")?,
        socket_lb: config.socket_lb,
        socket_lb_udp: config.socket_lb_udp,
        snat_ports: config.snat_ports,
    })
}

/// glibc makes a heap per thread and core by default: parsing on several of them would hold on to a multiple of what
/// the agent needs.
fn one_heap_per_worker() {
    // SAFETY: called before any other thread exists; sets a limit and touches no memory.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
}
