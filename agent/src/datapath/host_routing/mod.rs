//! Host routing: whether, and between which devices, pods' packets go past the node's stack. The programs ask the kernel
//! for the way; the agent watches for whatever wants to see packets on it, and lends the permission for a few seconds
//! at a time, so that a firewall that comes while no agent runs is heeded too.

mod chains;
mod decide;
mod ipsec;
mod survey;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
    programs::{ProgramError, SchedClassifier},
};
use nix::time::{ClockId, clock_gettime};
use rtnetlink::Handle;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use self::decide::{Decision, Survey, decide};
use super::{
    Pins, RouteChanges, SetupError,
    pins::at,
    tables::{array, hash},
    words::SharedArray,
};

/// How often everything is looked at. Not all of it can be listened to.
pub const LOOK: Duration = Duration::from_secs(5);
/// How long the permission lasts.
const LEASE: Duration = Duration::from_secs(15);

const LEASES: &str = "HOST_ROUTING";
const DEVICES: &str = "POD_DEVICES";

/// What the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRoutingMode {
    /// Where nothing looks at what the node forwards.
    Auto,
    /// Whatever a firewall of the node says.
    Always,
    Off,
}

pub struct HostRouting {
    mode: HostRoutingMode,
    handle: Handle,
    connection: JoinHandle<()>,
    lease: SharedArray<u64>,
    devices: HashMap<MapData, u32, u32>,
    /// A path may lead to a device that was let go, or past one that has come.
    changes: RouteChanges,
    /// Ids of our programs on pods' devices.
    ours: BTreeSet<u32>,
    /// Devices that could be handed packets at the last look, and since when; `None`: since before the agent.
    met: BTreeMap<u32, Option<Instant>>,
    /// Why everything goes by the stack, and which devices' packets do.
    said: Option<(Option<String>, BTreeMap<String, String>)>,
}

impl Drop for HostRouting {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl HostRouting {
    /// Over the pinned maps that `ebpf`'s programs run on. Within a tokio runtime.
    ///
    /// # Errors
    /// Names the map or the program.
    pub fn open(pins: &Pins, ebpf: &Ebpf, mode: HostRoutingMode) -> Result<Self, SetupError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(at("rtnetlink".as_ref(), "open"))?;
        let ours = ["mr_from_pod", "mr_to_pod"].into_iter().map(|name| id(ebpf, name)).collect::<Result<_, _>>()?;
        Ok(Self {
            mode,
            handle,
            connection: tokio::spawn(connection),
            lease: array(pins, LEASES)?,
            devices: hash(pins, DEVICES)?,
            changes: RouteChanges::open(pins)?,
            ours,
            met: BTreeMap::new(),
            said: None,
        })
    }

    /// Everything goes by the stack until the next look.
    pub fn suspend(&self) {
        if let Err(error) = self.lease.store_word(0, 0, 0) {
            warn!(%error, map = LEASES, "what was put on a device is heeded with the next look");
        }
    }

    /// Looks at everything, and lends the permission or takes it back. Returns between how many devices packets go past
    /// the stack.
    pub async fn look(&mut self, pods: &BTreeSet<u32>) -> usize {
        let decision = match self.mode {
            HostRoutingMode::Off => decide(self.mode, &Survey::default()),
            HostRoutingMode::Auto | HostRoutingMode::Always => {
                match survey::survey(&self.handle, pods, &self.ours).await {
                    Ok(survey) => self.admitted(decide(self.mode, &survey)),
                    Err(error) => {
                        Decision { reason: Some(format!("it cannot be looked at: {error}")), ..Decision::default() }
                    }
                }
            }
        };
        let count = decision.devices.len();
        if let Err(error) = self.carry_out(&decision) {
            warn!(%error, "host routing cannot be written: pods reach each other by the stack in a few seconds");
        }
        let (reason, apart) = (decision.reason, decision.apart);
        if self.said.as_ref() != Some(&(reason.clone(), apart.clone())) {
            say(reason.as_deref(), &apart);
            self.said = Some((reason, apart));
        }
        count
    }

    /// Without devices that came a moment ago: what is meant for them, such as a policy's program, may come after them, and
    /// not all of it is announced. Those that were there before the agent have it.
    fn admitted(&mut self, mut decision: Decision) -> Decision {
        let now = Instant::now();
        let first = self.said.is_none();
        self.met.retain(|index, _| decision.devices.contains(index));
        for index in &decision.devices {
            self.met.entry(*index).or_insert_with(|| if first { None } else { Some(now) });
        }
        decision.devices.retain(|index| self.met.get(index).is_none_or(|met| met.is_none_or(|met| now - met >= LOOK)));
        decision
    }

    fn carry_out(&mut self, decision: &Decision) -> io::Result<()> {
        if decision.reason.is_some() {
            self.lease.store_word(0, 0, 0)?;
        }
        let there: BTreeSet<u32> = self.devices.keys().collect::<Result<_, _>>().map_err(io::Error::other)?;
        for gone in there.difference(&decision.devices) {
            self.devices.remove(gone).map_err(io::Error::other)?;
        }
        for new in decision.devices.difference(&there) {
            // Full: packets from and to the others go by the stack.
            if let Err(error) = self.devices.insert(*new, 1, 0) {
                warn!(%error, index = new, map = DEVICES, "a pod is reached by the stack only");
            }
        }
        if there != decision.devices {
            self.changes.count()?;
        }
        if decision.reason.is_none() {
            let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
            self.lease.store_word(0, 0, (now + LEASE).as_nanos() as u64)?;
        }
        Ok(())
    }
}

fn say(reason: Option<&str>, apart: &BTreeMap<String, String>) {
    match reason {
        Some(reason) => info!(reason, "pods of this node reach each other by its stack"),
        None => info!("pods of this node reach each other past its stack"),
    }
    for (device, reason) in apart {
        info!(device, reason, "this pod is reached by the stack");
    }
}

fn id(ebpf: &Ebpf, name: &'static str) -> Result<u32, SetupError> {
    let program = ebpf.program(name).ok_or_else(|| SetupError::NoProgram { program: name.to_owned() })?;
    let failed = |source: ProgramError| SetupError::Program {
        program: name.to_owned(),
        operation: "identify",
        source: Box::new(source),
    };
    let program: &SchedClassifier = program.try_into().map_err(failed)?;
    Ok(program.info().map_err(failed)?.id())
}
