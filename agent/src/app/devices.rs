//! Attaches to devices as they appear, tells the node's addresses to the decision loop, and has the programs' tables
//! swept: all that needs the loaded programs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Result, bail};
use millrace_common::sweep::FamilyReport;
use tokio::{
    sync::{mpsc, watch as latest},
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, info, warn};

use crate::{
    datapath::{
        Attacher, Filled, Forgetful, HostRouting, HostRoutingMode, LOOK_FOR_FIREWALLS, Limits, Loaded, Pins, SnatPorts,
        XdpAttacher,
        devices::{DeviceEvent, Role},
        host, sweep,
    },
    lb::Assigned,
    metrics::{MapLabel, Metrics},
    migrate::KUBE_IPVS0,
};

/// What is put on a device comes in several parts.
const SETTLED: Duration = Duration::from_millis(50);

/// How often flows that are over are looked for. None is over before 30 s, and a walk takes 13 ns a bucket even over an
/// empty table: 3.4 ms at the default size, in which its CPU serves no packets.
const SWEEP: Duration = Duration::from_secs(15);

pub(super) struct Devices {
    loaded: Loaded,
    attacher: Attacher,
    xdp: XdpAttacher,
    heard: mpsc::Receiver<DeviceEvent>,
    /// As was told.
    assigned: Assigned,
    attached: BTreeSet<u32>,
    /// Those of them that lead out of the node.
    uplinks: BTreeSet<u32>,
    /// Devices that could not be attached to, by index: tried again with each sweep.
    failed: BTreeMap<u32, (String, Role)>,
}

impl Devices {
    pub(super) fn new(
        loaded: Loaded,
        attacher: Attacher,
        xdp: XdpAttacher,
        heard: mpsc::Receiver<DeviceEvent>,
    ) -> Self {
        Self {
            loaded,
            attacher,
            xdp,
            heard,
            assigned: Assigned::default(),
            attached: BTreeSet::new(),
            uplinks: BTreeSet::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Attaches to all devices that are there, and returns the node's addresses: they end what is said at the start.
    /// All programs are in place then, so maps of another size can become the pinned ones.
    pub(super) async fn attach_all(&mut self) -> Result<Assigned> {
        while let Some(event) = self.heard.recv().await {
            let complete = matches!(event, DeviceEvent::Addresses(_));
            self.act(event);
            if complete {
                // An earlier agent may have been told of other devices: nothing may stay on the old programs.
                self.attacher.release_others(&self.attached)?;
                self.xdp.release_others(&self.uplinks)?;
                self.loaded.settle()?;
                if self.uplinks.is_empty() {
                    warn!(
                        "no route out of the node and no --device: node ports and VIPs are not served to clients outside"
                    );
                }
                return Ok(self.assigned.clone());
            }
        }
        bail!("the node's devices cannot be listed through rtnetlink")
    }

    /// To be asked for when all devices are attached to.
    pub(super) fn host_routing(&self, pins: &Pins, mode: HostRoutingMode) -> Result<HostRouting> {
        Ok(HostRouting::open(pins, &self.loaded.ebpf, mode)?)
    }

    /// Goes on until nobody listens.
    pub(super) async fn follow(
        mut self,
        told: latest::Sender<Assigned>,
        mut flows: Flows,
        mut routing: HostRouting,
    ) -> Result<()> {
        let [mut ticks, mut looks] = [SWEEP, LOOK_FOR_FIREWALLS].map(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.heard.recv() => {
                    let Some(event) = event else { return Ok(()) };
                    if event == DeviceEvent::Filters {
                        routing.suspend();
                        looks.reset_after(SETTLED);
                    }
                    if let Some(addresses) = self.act(event)
                        && told.send(addresses).is_err()
                    {
                        return Ok(());
                    }
                }
                _ = looks.tick() => {
                    let pods = self.attached.difference(&self.uplinks).copied().collect();
                    flows.metrics.host_routing_devices.set(routing.look(&pods).await as i64);
                }
                _ = ticks.tick() => {
                    self.retry();
                    match sweep(&self.loaded) {
                        Ok(report) => flows.note([report.v4, report.v6]),
                        Err(error) => warn!(%error, "flows that are over stay in their tables"),
                    }
                    flows.count();
                }
            }
        }
    }

    /// One device that cannot be attached to must not keep the others from it: it is named, its traffic goes by. Returns the
    /// node's addresses if they are others now, or the routes choose among them in another way.
    fn act(&mut self, event: DeviceEvent) -> Option<Assigned> {
        match event {
            DeviceEvent::Attach { index, name, role } => self.attach(index, name, role),
            DeviceEvent::Release { index, vanished } => {
                self.attached.remove(&index);
                self.failed.remove(&index);
                self.uplinks.remove(&index);
                if let Err(error) = self.xdp.release(index).and(self.attacher.release(index, vanished)) {
                    warn!(%error, index, "a device keeps traces of the programs");
                }
            }
            DeviceEvent::Addresses(all) => return self.reassign(Assigned { all, ..self.assigned.clone() }),
            DeviceEvent::Outward(uplinks) => return self.reassign(Assigned { uplinks, ..self.assigned.clone() }),
            DeviceEvent::Unframed { name } => warn!(
                device = name,
                "its packets have no Ethernet header (WireGuard, a tunnel, PPP), so it is not attached to: clients that come by it \
                 have no node ports and VIPs, answers of endpoints that come by it are not met, and what this node's own sockets \
                 send to services that no hook serves goes out by it; `--device` names the devices that are to be served"
            ),
            DeviceEvent::ServicesOfKubeProxy => info!(
                device = KUBE_IPVS0,
                "kube-proxy's IPVS mode was here: the addresses of its device are services', not the node's; \
                 `millrace-agent cleanup --kube-proxy` removes what it left"
            ),
            DeviceEvent::Filters => {}
        }
        None
    }

    fn reassign(&mut self, heard: Assigned) -> Option<Assigned> {
        let now = Assigned { routed: host::sources(), ..heard };
        if now == self.assigned {
            return None;
        }
        self.assigned = now;
        Some(self.assigned.clone())
    }

    fn attach(&mut self, index: u32, name: String, role: Role) {
        match self.attacher.attach(&mut self.loaded.ebpf, index, &name, role) {
            Ok(()) => {
                self.attached.insert(index);
                if role == Role::Uplink {
                    self.express(index, &name);
                }
            }
            Err(error) => {
                warn!(%error, device = name, "a device is without its programs; will be tried again");
                self.failed.insert(index, (name, role));
            }
        }
    }

    /// XDP is a faster way and no other: a device goes on without it.
    fn express(&mut self, index: u32, name: &str) {
        self.uplinks.insert(index);
        if let Err(error) = self.xdp.attach(&mut self.loaded.ebpf, index, name) {
            warn!(%error, device = name, "--xdp is not in force on a device");
            // Nor is what an earlier agent left there, which would serve by old rules.
            if let Err(error) = self.xdp.release(index) {
                warn!(%error, device = name, "a device keeps traces of XDP");
            }
        }
    }

    fn retry(&mut self) {
        for (index, (name, role)) in std::mem::take(&mut self.failed) {
            self.attach(index, name, role);
        }
    }
}

/// How full the connection tables are.
pub(super) struct Flows {
    metrics: Metrics,
    forgetful: Forgetful,
    capacity: u32,
    crowded: [bool; 2],
}

impl Flows {
    pub(super) fn new(limits: &Limits, ports: SnatPorts, forgetful: Forgetful, metrics: Metrics) -> Self {
        metrics.snat_ports.set(i64::from(ports.last) - i64::from(ports.first) + 1);
        Self { metrics, forgetful, capacity: limits.flows.max(1).next_power_of_two(), crowded: [false; 2] }
    }

    /// What the tables hold that make room by themselves.
    fn count(&self) {
        for Filled { map, capacity, used } in self.forgetful.count() {
            match used {
                Ok(used) => self.metrics.occupied(map, used, capacity),
                Err(error) => debug!(%error, "a table's entries are not counted"),
            }
        }
    }

    /// A table that fills up is worth a word before it refuses a flow.
    fn note(&mut self, reports: [FamilyReport; 2]) {
        for ((map, report), crowded) in ["CT_V4", "CT_V6"].into_iter().zip(reports).zip(&mut self.crowded) {
            self.metrics.occupied(map, report.kept, self.capacity);
            self.metrics.snat_flows.get_or_create(&MapLabel { map }).set(report.hidden.into());
            let full = u64::from(report.kept) * 10 >= u64::from(self.capacity) * 9;
            if full && !*crowded {
                warn!(
                    map,
                    entries = report.kept,
                    "nine tenths full; when it is full, new flows are refused: raise --max-flows"
                );
            }
            *crowded = full;
            if report.expired > 0 {
                debug!(map, expired = report.expired, kept = report.kept, "swept");
            }
        }
    }
}
