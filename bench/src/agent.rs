//! The agent's own pipeline in this process, with the kernel's maps behind it: parsed, decided on and written on one
//! thread.

use std::sync::mpsc::{self, Receiver, Sender};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{core::v1, discovery};
use millrace_agent::{
    app::Pipeline,
    datapath::{self, Constants, KernelTables, Limits, Loaded, Pins, PinsLock},
    diff::{Planner, Ticket},
    lb::NodeInfo,
    model::{EndpointSlice, Service},
    watch::Change,
};
use millrace_tests::bpffs::Bpffs;

/// A grace period that was asked for with a ticket.
type Passed = Result<Ticket, datapath::grace::Refused>;

/// A node's agent. Nothing is attached: no packet passes here.
pub struct Agent {
    pipeline: Pipeline<KernelTables>,
    graces: (Sender<Passed>, Receiver<Passed>),
    grace_under_way: bool,
    pub loaded: Loaded,
    pub pins: Pins,
    _lock: PinsLock,
    /// Last: its maps are held by all of the above.
    _bpffs: Bpffs,
}

impl Agent {
    /// With empty maps on a file system of its own, named after `what`.
    ///
    /// # Errors
    /// Not root, or what the kernel refused.
    pub fn start(what: &str, node: NodeInfo, limits: &Limits, constants: &Constants) -> Result<Self> {
        let bpffs = Bpffs::mount(what)?;
        let pins = Pins::at(&bpffs.path);
        let lock = pins.open()?;
        let loaded = datapath::load(&pins, limits, constants)?;
        let tables = KernelTables::open(&pins, datapath::grace::start()?)?;
        let planner = Planner::restore(&datapath::snapshot(&pins)?, limits.sizes());
        Ok(Self {
            pipeline: Pipeline::new(node, [], planner, tables),
            graces: mpsc::channel(),
            grace_under_way: false,
            loaded,
            pins,
            _lock: lock,
            _bpffs: bpffs,
        })
    }

    /// Takes in a Service, as the API server writes it.
    ///
    /// # Errors
    /// It is none that a proxy serves.
    pub fn take_service(&mut self, json: &[u8]) -> Result<()> {
        let object: v1::Service = serde_json::from_slice(json)?;
        let parsed = Service::from_resource(&object, None)?.context("the Service is none for a proxy")?;
        self.pipeline.take(Change::Service(parsed.value.key.clone(), Some(Box::new(parsed.value))));
        Ok(())
    }

    /// Takes in an EndpointSlice.
    ///
    /// # Errors
    /// It is none that a proxy serves.
    pub fn take_slice(&mut self, json: &[u8]) -> Result<()> {
        let object: discovery::v1::EndpointSlice = serde_json::from_slice(json)?;
        let parsed = EndpointSlice::from_resource(&object, None)?.context("the slice is none for a proxy")?;
        self.pipeline.take(Change::EndpointSlice(parsed.value.key.clone(), Some(Box::new(parsed.value))));
        Ok(())
    }

    /// All that there is at first was taken in: decides and writes.
    ///
    /// # Errors
    /// As [`Agent::round`].
    pub fn synced(&mut self) -> Result<()> {
        self.pipeline.take(Change::Synced);
        self.round().map(drop)
    }

    /// Decides on what was taken in, and writes. Returns how many operations that took.
    ///
    /// # Errors
    /// The kernel refused something, or there is no room.
    pub fn round(&mut self) -> Result<usize> {
        while let Ok(passed) = self.graces.1.try_recv() {
            self.grace_under_way = false;
            self.pipeline.graced(passed?);
        }
        let round = self.pipeline.round();
        ensure!(round.failures == 0, "the kernel refused {} operations", round.failures);
        ensure!(self.pipeline.waiting() == 0, "{} service ports have no room", self.pipeline.waiting());
        if !self.grace_under_way
            && let Some(ticket) = self.pipeline.pending_grace()
        {
            self.grace_under_way = true;
            let over = self.graces.0.clone();
            self.pipeline.tables().grace().request(move |passed| {
                // Nobody listens any more when the bench ends.
                let _ = over.send(passed.map(|()| ticket));
            });
        }
        Ok(round.written)
    }
}
