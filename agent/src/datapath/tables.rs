//! The planner's operations on the kernel's maps.

use std::{io, net::IpAddr};

use aya::{
    Pod,
    maps::{HashMap, LpmTrie, Map, MapData, lpm_trie},
};
use ipnet::IpNet;
use millrace_common::{
    address::{Addr4, Addr6, Address, Port, addr4, addr6},
    backend::Slot,
    frontend::{FrontendKey, FrontendKind, FrontendValue},
    maglev,
    service::{ServiceName, ServiceRecord, SourceRange},
};

use super::{
    Pins, SetupError, TableError, Tables, error::map_error, grace::Grace, marks::ServiceMarks, pins::open_pinned,
    syscall::NOEXIST, words::SharedArray,
};
use crate::{
    diff::{Op, SlotValue, Word},
    lb::{Family, Frontend},
    model::Protocol,
};

/// Both families' maps of one kind of thing.
struct Dual<A, B> {
    v4: A,
    v6: B,
}

type Ranges<A> = LpmTrie<MapData, SourceRange<A>, u32>;
type Frontends<A> = HashMap<MapData, FrontendKey<A>, FrontendValue>;

/// The maps of one bpffs path, open for writing.
pub struct KernelTables {
    frontends: Dual<Frontends<Addr4>, Frontends<Addr6>>,
    cidrs: Dual<LpmTrie<MapData, Addr4, u32>, LpmTrie<MapData, Addr6, u32>>,
    ranges: Dual<Ranges<Addr4>, Ranges<Addr6>>,
    services: SharedArray<ServiceRecord>,
    names: SharedArray<ServiceName>,
    slots: Dual<SharedArray<Slot<Addr4>>, SharedArray<Slot<Addr6>>>,
    backends: SharedArray<u64>,
    withdrawals: SharedArray<u64>,
    marks: ServiceMarks,
    grace: Grace,
}

impl KernelTables {
    /// Opens the pinned maps that `load` has checked.
    ///
    /// # Errors
    /// Names the map that is missing or of another shape.
    pub fn open(pins: &Pins, grace: Grace) -> Result<Self, SetupError> {
        let withdrawals = array(pins, "WITHDRAWALS")?;
        // An earlier agent may have been killed between a delete and its count.
        count(&withdrawals).map_err(|source| SetupError::Path {
            path: pins.map("WITHDRAWALS"),
            operation: "counting",
            source,
        })?;
        Ok(Self {
            frontends: Dual { v4: hash(pins, "FRONTENDS_V4")?, v6: hash(pins, "FRONTENDS_V6")? },
            cidrs: Dual { v4: trie(pins, "SERVICE_CIDRS_V4")?, v6: trie(pins, "SERVICE_CIDRS_V6")? },
            ranges: Dual { v4: trie(pins, "SOURCE_RANGES_V4")?, v6: trie(pins, "SOURCE_RANGES_V6")? },
            services: array(pins, "SERVICES")?,
            names: array(pins, "NAMES")?,
            slots: Dual { v4: array(pins, "SLOTS_V4")?, v6: array(pins, "SLOTS_V6")? },
            backends: array(pins, "BACKENDS")?,
            withdrawals,
            marks: ServiceMarks::open(pins)?,
            grace,
        })
    }

    /// For the grace periods that freed blocks wait for, off the critical path.
    #[must_use]
    pub fn grace(&self) -> &Grace {
        &self.grace
    }

    fn write_block(&self, family: Family, base: u32, at: Place, slots: &[SlotValue]) -> io::Result<()> {
        match family {
            Family::V4 => write_slots(&self.slots.v4, base, at, slots),
            Family::V6 => write_slots(&self.slots.v6, base, at, slots),
        }
    }

    fn write_table(&self, family: Family, base: u32, table: &[u16]) -> io::Result<()> {
        match family {
            Family::V4 => write_pages(&self.slots.v4, base, table),
            Family::V6 => write_pages(&self.slots.v6, base, table),
        }
    }

    fn insert(&mut self, address: IpAddr, port: u16, protocol: u8, value: FrontendValue) -> io::Result<()> {
        self.marks.frontend(address)?;
        match address {
            IpAddr::V4(ip) => insert(&mut self.frontends.v4, key(addr4(ip), port, protocol), value),
            IpAddr::V6(ip) => insert(&mut self.frontends.v6, key(addr6(ip), port, protocol), value),
        }
    }

    fn delete(&mut self, address: IpAddr, port: u16, protocol: u8) -> io::Result<()> {
        absent_is_fine(match address {
            IpAddr::V4(ip) => self.frontends.v4.remove(&key(addr4(ip), port, protocol)),
            IpAddr::V6(ip) => self.frontends.v6.remove(&key(addr6(ip), port, protocol)),
        })
    }

    fn insert_frontend(&mut self, frontend: Frontend, kind: FrontendKind, index: u32) -> io::Result<()> {
        let value = FrontendValue::new(index, kind);
        self.insert(frontend.address, frontend.port, frontend.protocol.number(), value)
    }

    /// Connections through the frontend go on until they end; datagrams are told, by the count, to look it up again.
    fn withdraw(&mut self, frontend: Frontend) -> io::Result<()> {
        self.delete(frontend.address, frontend.port, frontend.protocol.number())?;
        match frontend.protocol {
            Protocol::Udp => count(&self.withdrawals),
            Protocol::Tcp | Protocol::Sctp => Ok(()),
        }
    }

    fn insert_cidr(&mut self, cidr: IpNet) -> io::Result<()> {
        self.marks.range(cidr)?;
        match cidr {
            IpNet::V4(net) => self.cidrs.v4.insert(&prefix(cidr, addr4(net.network())), 1, 0),
            IpNet::V6(net) => self.cidrs.v6.insert(&prefix(cidr, addr6(net.network())), 1, 0),
        }
        .map_err(map_error)
    }

    fn delete_cidr(&mut self, cidr: IpNet) -> io::Result<()> {
        absent_is_fine(match cidr {
            IpNet::V4(net) => self.cidrs.v4.remove(&prefix(cidr, addr4(net.network()))),
            IpNet::V6(net) => self.cidrs.v6.remove(&prefix(cidr, addr6(net.network()))),
        })
    }

    fn insert_range(&mut self, index: u32, range: IpNet) -> io::Result<()> {
        match range {
            IpNet::V4(net) => self.ranges.v4.insert(&guard(index, range, addr4(net.network())), 1, 0),
            IpNet::V6(net) => self.ranges.v6.insert(&guard(index, range, addr6(net.network())), 1, 0),
        }
        .map_err(map_error)
    }

    fn delete_range(&mut self, index: u32, range: IpNet) -> io::Result<()> {
        absent_is_fine(match range {
            IpNet::V4(net) => self.ranges.v4.remove(&guard(index, range, addr4(net.network()))),
            IpNet::V6(net) => self.ranges.v6.remove(&guard(index, range, addr6(net.network()))),
        })
    }

    fn apply(&mut self, op: &Op) -> io::Result<()> {
        match op {
            Op::StoreBackend { id, state } => self.backends.store_word(*id, 0, state.0),
            Op::WriteBlock { family, base, generation, owner, slots, table } => {
                self.write_block(*family, *base, Place { generation: *generation, owner: *owner }, slots)?;
                self.write_table(*family, *base + slots.len() as u32, table)
            }
            Op::StoreName { index, name } => self.names.write(*index, **name),
            Op::StoreWord { index, word, value } => self.services.store_word(*index, offset(*word), *value),
            Op::Grace => self.grace.wait(),
            Op::InsertFrontend { frontend, kind, index } => self.insert_frontend(*frontend, *kind, *index),
            Op::DeleteFrontend { frontend } => self.withdraw(*frontend),
            Op::InsertOwned { address } => self.insert(*address, 0, 0, FrontendValue::OWNED),
            Op::DeleteOwned { address } => self.delete(*address, 0, 0),
            Op::InsertRange { index, range } => self.insert_range(*index, *range),
            Op::DeleteRange { index, range } => self.delete_range(*index, *range),
            Op::InsertCidr { cidr } => self.insert_cidr(*cidr),
            Op::DeleteCidr { cidr } => self.delete_cidr(*cidr),
        }
    }
}

impl Tables for KernelTables {
    fn execute(&mut self, op: &Op) -> Result<(), TableError> {
        self.apply(op).map_err(|source| TableError { map: map_of(op), operation: format!("{op:?}"), source })
    }
}

/// What all slots of a block share.
#[derive(Clone, Copy)]
struct Place {
    generation: u16,
    owner: u32,
}

/// Where a word lies in a [`ServiceRecord`].
const fn offset(word: Word) -> usize {
    match word {
        Word::Cluster => 0,
        Word::Local => 1,
        Word::Attributes => 2,
    }
}

const fn map_of(op: &Op) -> &'static str {
    match op {
        Op::StoreBackend { .. } => "BACKENDS",
        Op::WriteBlock { .. } => "SLOTS",
        Op::StoreName { .. } => "NAMES",
        Op::StoreWord { .. } => "SERVICES",
        Op::Grace
        | Op::InsertFrontend { .. }
        | Op::DeleteFrontend { .. }
        | Op::InsertOwned { .. }
        | Op::DeleteOwned { .. } => "FRONTENDS",
        Op::InsertRange { .. } | Op::DeleteRange { .. } => "SOURCE_RANGES",
        Op::InsertCidr { .. } | Op::DeleteCidr { .. } => "SERVICE_CIDRS",
    }
}

fn write_slots<A: Address>(array: &SharedArray<Slot<A>>, base: u32, at: Place, slots: &[SlotValue]) -> io::Result<()>
where
    Slot<A>: Pod,
{
    for (index, slot) in (base..).zip(slots) {
        let address = A::from_ip(slot.address.ip())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an address of the other family"))?;
        let Place { generation, owner } = at;
        let port = Port::new(slot.address.port());
        array.write(index, Slot { address, port, generation, backend: slot.backend, owner })?;
    }
    Ok(())
}

fn write_pages<A>(array: &SharedArray<Slot<A>>, base: u32, table: &[u16]) -> io::Result<()>
where
    Slot<A>: Pod,
{
    for (index, entries) in (base..).zip(table.chunks(maglev::PER_SLOT as usize)) {
        let mut page = maglev::Page::default();
        page[..entries.len()].copy_from_slice(entries);
        array.write_page(index, page)?;
    }
    Ok(())
}

/// A frontend is never replaced. One that is there already with this very value was written by an attempt whose end
/// the caller did not see.
fn insert<A>(map: &mut Frontends<A>, key: FrontendKey<A>, value: FrontendValue) -> io::Result<()>
where
    FrontendKey<A>: Pod,
{
    match map.insert(key, value, NOEXIST).map_err(map_error) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) && map.get(&key, 0).ok() == Some(value) => Ok(()),
        result => result,
    }
}

fn count(withdrawals: &SharedArray<u64>) -> io::Result<()> {
    withdrawals.store_word(0, 0, withdrawals.read(0)?.wrapping_add(1))
}

pub(super) fn absent_is_fine(result: Result<(), aya::maps::MapError>) -> io::Result<()> {
    match result.map_err(map_error) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

const fn key<A>(address: A, port: u16, protocol: u8) -> FrontendKey<A> {
    FrontendKey::new(address, Port::new(port), protocol)
}

fn prefix<A: Pod>(cidr: IpNet, network: A) -> lpm_trie::Key<A> {
    lpm_trie::Key::new(cidr.prefix_len().into(), network)
}

fn guard<A>(service: u32, range: IpNet, client: A) -> lpm_trie::Key<SourceRange<A>>
where
    SourceRange<A>: Pod,
{
    let bits = SourceRange::<A>::SERVICE_BITS + u32::from(range.prefix_len());
    lpm_trie::Key::new(bits, SourceRange { service, client })
}

fn failed(name: &'static str, operation: &'static str) -> impl Fn(aya::maps::MapError) -> SetupError {
    move |source| SetupError::Map { map: name.to_owned(), operation, source }
}

pub(super) fn hash<K: Pod, V: Pod>(pins: &Pins, name: &'static str) -> Result<HashMap<MapData, K, V>, SetupError> {
    Map::from_map_data(open_pinned(&pins.map(name))?).and_then(HashMap::try_from).map_err(failed(name, "open"))
}

pub(super) fn trie<K: Pod>(pins: &Pins, name: &'static str) -> Result<LpmTrie<MapData, K, u32>, SetupError> {
    Map::from_map_data(open_pinned(&pins.map(name))?).and_then(LpmTrie::try_from).map_err(failed(name, "open"))
}

pub(super) fn array<V: Pod>(pins: &Pins, name: &'static str) -> Result<SharedArray<V>, SetupError> {
    let map = open_pinned(&pins.map(name))?;
    let info = map.info().map_err(failed(name, "info"))?;
    if info.value_size() as usize != size_of::<V>() {
        return Err(SetupError::OtherMap {
            path: pins.map(name),
            found: format!("an array with values of {} bytes", info.value_size()),
            wanted: format!("{} bytes", size_of::<V>()),
        });
    }
    Ok(SharedArray::open(map, info.max_entries()))
}
