//! Reads the pinned maps into plain values: at start-up, and for the command line.

use std::{io, net::SocketAddr};

use aya::{Pod, maps::MapError};
use ipnet::IpNet;
use millrace_common::{
    address::{Addr4, Addr6, Address},
    backend::{BackendState, Slot},
    frontend::{FrontendKey, FrontendKind, FrontendValue},
    maglev,
    service::{ServiceName, ServiceRecord, SetWord, SourceRange},
};

use super::{
    Pins, SetupError,
    tables::{array, hash, trie},
    words::SharedArray,
};
use crate::{
    diff::{Snapshot, SnapshotSlot},
    lb::{Family, Frontend},
    model::Protocol,
};

/// What is in use in the maps at `pins`.
///
/// # Errors
/// Names the map that cannot be read.
pub fn snapshot(pins: &Pins) -> Result<Snapshot, SetupError> {
    let mut snapshot = Snapshot::default();
    read_names(pins, &mut snapshot)?;
    read_slots::<Addr4>(pins, Family::V4, "SLOTS_V4", &mut snapshot)?;
    read_slots::<Addr6>(pins, Family::V6, "SLOTS_V6", &mut snapshot)?;
    read_backends(pins, &mut snapshot)?;
    read_frontends::<Addr4>(pins, "FRONTENDS_V4", &mut snapshot)?;
    read_frontends::<Addr6>(pins, "FRONTENDS_V6", &mut snapshot)?;
    read_cidrs::<Addr4>(pins, "SERVICE_CIDRS_V4", &mut snapshot)?;
    read_cidrs::<Addr6>(pins, "SERVICE_CIDRS_V6", &mut snapshot)?;
    read_ranges::<Addr4>(pins, "SOURCE_RANGES_V4", &mut snapshot)?;
    read_ranges::<Addr6>(pins, "SOURCE_RANGES_V6", &mut snapshot)?;
    Ok(snapshot)
}

fn read_names(pins: &Pins, snapshot: &mut Snapshot) -> Result<(), SetupError> {
    let names: SharedArray<ServiceName> = array(pins, "NAMES")?;
    let services: SharedArray<ServiceRecord> = array(pins, "SERVICES")?;
    for index in 0..names.len() {
        let ServiceName(bytes) = names.read(index).map_err(failed("NAMES"))?;
        if bytes[0] == 0 {
            continue;
        }
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        snapshot.names.insert(index, String::from_utf8_lossy(&bytes[..end]).into_owned());
        snapshot.records.insert(index, services.read(index).map_err(failed("SERVICES"))?);
    }
    Ok(())
}

fn read_slots<A: Address>(
    pins: &Pins,
    family: Family,
    map: &'static str,
    snapshot: &mut Snapshot,
) -> Result<(), SetupError>
where
    Slot<A>: Pod,
{
    let slots: SharedArray<Slot<A>> = array(pins, map)?;
    let suffix = match family {
        Family::V4 => "/v4",
        Family::V6 => "/v6",
    };
    let of_family = snapshot.names.iter().filter(|(_, name)| name.ends_with(suffix));
    let words = of_family
        .filter_map(|(index, _)| snapshot.records.get(index))
        .flat_map(|record| [SetWord(record.cluster), SetWord(record.local)]);
    for word in words {
        // A word of another layout cannot get here; one that points beyond the map is left to the planner to see.
        for index in (word.base()..slots.len()).take(word.count() as usize) {
            let slot = slots.read(index).map_err(failed(map))?;
            let address = SocketAddr::new(slot.address.to_ip(), slot.port.host());
            let Slot { backend, generation, owner, .. } = slot;
            snapshot.slots.insert((family, index), SnapshotSlot { address, backend, generation, owner });
        }
        if word.has_table() {
            snapshot.tables.insert((family, word.base()), read_table(&slots, word).map_err(failed(map))?);
        }
    }
    Ok(())
}

/// As much of a table as lies in the map.
fn read_table<A>(slots: &SharedArray<Slot<A>>, word: SetWord) -> io::Result<Vec<u16>>
where
    Slot<A>: Pod,
{
    let behind = word.base().saturating_add(word.count());
    let pages = (behind..slots.len()).take(maglev::slots(word.count()) as usize);
    let mut table = Vec::new();
    for index in pages {
        table.extend(slots.read_page(index)?);
    }
    table.truncate(maglev::size(word.count()) as usize);
    Ok(table)
}

fn read_backends(pins: &Pins, snapshot: &mut Snapshot) -> Result<(), SetupError> {
    let backends: SharedArray<u64> = array(pins, "BACKENDS")?;
    for id in 0..backends.len() {
        let state = backends.read(id).map_err(failed("BACKENDS"))?;
        if state != 0 {
            snapshot.backends.insert(id, BackendState(state));
        }
    }
    Ok(())
}

fn read_frontends<A: Address>(pins: &Pins, map: &'static str, snapshot: &mut Snapshot) -> Result<(), SetupError>
where
    FrontendKey<A>: Pod,
{
    for entry in hash::<FrontendKey<A>, FrontendValue>(pins, map)?.iter() {
        let (key, value) = entry.map_err(|source| unreadable(map, source))?;
        let address = key.address.to_ip();
        let Some(kind) = FrontendKind::from_byte(value.kind) else { continue };
        match protocol(key.protocol) {
            Some(protocol) => {
                let frontend = Frontend { address, port: key.port.host(), protocol };
                snapshot.frontends.insert(frontend, (kind, value.service));
            }
            None => drop(snapshot.owned.insert(address)),
        }
    }
    Ok(())
}

fn read_cidrs<A: Address + Pod>(pins: &Pins, map: &'static str, snapshot: &mut Snapshot) -> Result<(), SetupError> {
    for entry in trie::<A>(pins, map)?.iter() {
        let (key, _) = entry.map_err(|source| unreadable(map, source))?;
        let length = u8::try_from(key.prefix_len()).unwrap_or(u8::MAX);
        if let Ok(cidr) = IpNet::new(key.data().to_ip(), length) {
            snapshot.cidrs.insert(cidr);
        }
    }
    Ok(())
}

fn read_ranges<A: Address>(pins: &Pins, map: &'static str, snapshot: &mut Snapshot) -> Result<(), SetupError>
where
    SourceRange<A>: Pod,
{
    for entry in trie::<SourceRange<A>>(pins, map)?.iter() {
        let (key, _) = entry.map_err(|source| unreadable(map, source))?;
        let SourceRange { service, client } = key.data();
        let length = key.prefix_len().saturating_sub(SourceRange::<A>::SERVICE_BITS);
        if let Ok(range) = IpNet::new(client.to_ip(), u8::try_from(length).unwrap_or(u8::MAX)) {
            snapshot.ranges.entry(service).or_default().insert(range);
        }
    }
    Ok(())
}

fn protocol(number: u8) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|protocol| protocol.number() == number)
}

fn unreadable(map: &'static str, source: MapError) -> SetupError {
    SetupError::Map { map: map.to_owned(), operation: "read", source }
}

fn failed(map: &'static str) -> impl Fn(io::Error) -> SetupError {
    move |error| unreadable(map, MapError::IoError(error))
}
