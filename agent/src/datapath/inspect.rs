//! What the pinned maps tell an operator: verdict counters, tracked flows, occupancy.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    path::Path,
};

use aya::{
    Pod,
    maps::{Map, MapData, PerCpuArray},
};
use millrace_common::{
    address::{Addr4, Addr6, Address, protocol},
    flow::{Flow, Tuple, state},
    maps::{self, LAYOUT_VERSION, MapKind, MapSpec},
    verdict::Verdict,
};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::{
    Attacher, Pins, SetupError, TcMode,
    pins::{entries, open_pinned},
    resize, snapshot,
    tables::hash,
    xdp,
};
use crate::{diff::Snapshot, lb::Family};

/// One direction of a flow that the per-packet path tracks.
#[derive(Clone, Debug, Serialize)]
pub struct TrackedFlow {
    pub protocol: String,
    /// `forward` (from the client) or `reply`.
    pub direction: &'static str,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub translated_source: SocketAddr,
    pub translated_destination: SocketAddr,
    pub state: Vec<&'static str>,
    pub idle_seconds: u64,
    pub service: Option<String>,
}

/// How full a map is. `used`: `None` where nobody counts.
#[derive(Clone, Debug, Serialize)]
pub struct Occupancy {
    pub map: &'static str,
    pub used: Option<u64>,
    pub entries: u32,
    /// Kernel memory.
    pub mib: f64,
}

/// A device with the XDP program.
#[derive(Clone, Debug, Serialize)]
pub struct XdpLink {
    /// Index of the device.
    pub index: u32,
    pub mode: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub agent_running: bool,
    pub layout: u32,
    /// Socket hooks with a pinned link.
    pub hooks: Vec<String>,
    /// Programs on devices with a pinned link.
    pub device_links: usize,
    /// Uplinks with the XDP program.
    pub xdp_links: Vec<XdpLink>,
    /// Devices with filters of the clsact qdisc.
    pub filtered_devices: usize,
    pub service_ports: usize,
    pub maps: Vec<Occupancy>,
}

/// Each verdict's count, summed over the CPUs, in the order of [`Verdict::ALL`].
///
/// # Errors
/// When STATS cannot be read; so below for the map in question.
pub fn verdicts(pins: &Pins) -> Result<Vec<(Verdict, u64)>, SetupError> {
    let failed = |source| SetupError::Map { map: "STATS".to_owned(), operation: "read", source };
    let map = open_pinned(&pins.map("STATS"))?;
    let stats: PerCpuArray<_, u64> = Map::from_map_data(map).and_then(PerCpuArray::try_from).map_err(failed)?;
    let count = |verdict: &Verdict| Ok((*verdict, stats.get(&(*verdict as u32), 0)?.iter().sum()));
    Verdict::ALL.iter().map(count).collect::<Result<_, _>>().map_err(failed)
}

/// All tracked flows of both families, those not answered yet included.
pub fn flows(pins: &Pins) -> Result<Vec<TrackedFlow>, SetupError> {
    let names = snapshot(pins)?.names;
    // Monotonic seconds, as the programs write them.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.tv_sec().unsigned_abs());
    let service = |index: u32| names.get(&index).cloned();
    let mut flows = Vec::new();
    for map in ["CT_V4", "CT_NEW_V4"] {
        flows
            .extend(tracked::<Addr4>(pins, map)?.map(|(tuple, flow)| shown(&tuple, &flow, now, service(flow.service))));
    }
    for map in ["CT_V6", "CT_NEW_V6"] {
        flows
            .extend(tracked::<Addr6>(pins, map)?.map(|(tuple, flow)| shown(&tuple, &flow, now, service(flow.service))));
    }
    Ok(flows)
}

/// Whether the data path is in place, and how full its maps are.
pub fn status(pins: &Pins) -> Result<Status, SetupError> {
    let agent_running = match pins.lock() {
        Ok(_) => false,
        Err(SetupError::Locked { .. }) => true,
        Err(error) => return Err(error),
    };
    let snapshot = snapshot(pins)?;
    let (devices, mut hooks): (Vec<_>, Vec<_>) = entries(&pins.links())?
        .into_iter()
        .filter(|link| !link.starts_with(xdp::LINK_PREFIX))
        .partition(|link| link.starts_with("device-"));
    let xdp_links = xdp::attached(pins)?;
    hooks.sort();
    Ok(Status {
        agent_running,
        layout: LAYOUT_VERSION,
        hooks,
        device_links: devices.len(),
        xdp_links: xdp_links.iter().map(|pin| XdpLink { index: pin.index, mode: pin.mode.to_string() }).collect(),
        filtered_devices: Attacher::new(pins.clone(), TcMode::Clsact).count_filtered()?,
        service_ports: snapshot.names.len(),
        maps: maps::ALL.iter().map(|spec| occupancy(pins, spec, &snapshot)).collect::<Result<_, _>>()?,
    })
}

fn tracked<A: Address>(
    pins: &Pins,
    map: &'static str,
) -> Result<impl Iterator<Item = (Tuple<A>, Flow<A>)> + use<A>, SetupError>
where
    Tuple<A>: Pod,
    Flow<A>: Pod,
{
    // Programs add and delete while this reads: an entry that goes meanwhile is left out.
    let entries: Vec<_> = hash::<Tuple<A>, Flow<A>>(pins, map)?.iter().filter_map(Result::ok).collect();
    Ok(entries.into_iter())
}

fn shown<A: Address>(tuple: &Tuple<A>, flow: &Flow<A>, now: u64, service: Option<String>) -> TrackedFlow {
    let socket = |address: A, port: u16| SocketAddr::new(IpAddr::to_canonical(&address.to_ip()), port);
    TrackedFlow {
        protocol: protocol_name(tuple.protocol),
        direction: if tuple.direction == Tuple::<A>::FORWARD { "forward" } else { "reply" },
        source: socket(tuple.source, tuple.source_port.host()),
        destination: socket(tuple.destination, tuple.destination_port.host()),
        translated_source: socket(flow.source, flow.source_port.host()),
        translated_destination: socket(flow.destination, flow.destination_port.host()),
        state: [
            (state::SEEN, "seen"),
            (state::FIN, "fin"),
            (state::RST, "rst"),
            (state::HAIRPIN, "hairpin"),
            (state::NODE, "node"),
        ]
        .into_iter()
        .filter_map(|(bit, name)| (flow.state & bit != 0).then_some(name))
        .collect(),
        idle_seconds: now.saturating_sub(flow.last_seen.into()),
        service,
    }
}

fn protocol_name(number: u8) -> String {
    match number {
        protocol::TCP => "TCP".to_owned(),
        protocol::UDP => "UDP".to_owned(),
        protocol::SCTP => "SCTP".to_owned(),
        other => other.to_string(),
    }
}

fn occupancy(pins: &Pins, spec: &MapSpec, snapshot: &Snapshot) -> Result<Occupancy, SetupError> {
    let path = pins.map(spec.name);
    let failed = |source| SetupError::Map { map: spec.name.to_owned(), operation: "info", source };
    let entries = open_pinned(&path)?.info().map_err(failed)?.max_entries();
    let slots = |family| snapshot.slots.keys().filter(|(of, _)| *of == family).count() as u64;
    let used = match spec.name {
        "SERVICES" | "NAMES" => Some(snapshot.names.len() as u64),
        "SLOTS_V4" => Some(slots(Family::V4)),
        "SLOTS_V6" => Some(slots(Family::V6)),
        "BACKENDS" => Some(snapshot.backends.values().filter(|state| state.serving()).count() as u64),
        _ if spec.kind == MapKind::PerCpuArray => None,
        _ => Some(resize::count(pins, spec)?),
    };
    Ok(Occupancy { map: spec.name, used, entries, mib: mib(memory(&path).unwrap_or_default()) })
}

/// Bytes, from the line `memlock` that the kernel keeps for a map's descriptor.
pub(super) fn memory(pin: &Path) -> Option<u64> {
    let map = MapData::from_pin(pin).ok()?;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
}

/// With two decimals.
pub(super) fn mib(bytes: u64) -> f64 {
    (bytes as f64 / f64::from(1 << 20) * 100.0).round() / 100.0
}
