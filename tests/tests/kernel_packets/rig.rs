//! The programs with maps of their own, filled as the agent fills them.

mod load;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Mutex,
    thread,
};

use aya::{
    Ebpf, Pod,
    maps::{
        Array, HashMap, Map, MapData, PerCpuArray,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{SchedClassifier, Xdp},
};
use millrace_agent::lb::table;
use millrace_common::{
    address::{Addr6, Port, addr4, addr6, protocol},
    backend::{BackendState, Slot},
    frontend::{FrontendKey, FrontendKind, FrontendValue},
    maglev,
    marks::{self, Mark},
    service::{Attributes, ServiceRecord, SetWord, SourceRange},
    verdict::Verdict,
};
use millrace_tests::{
    packet::{Body, Flags, Packet},
    test_run::{self, Outcome},
};

use self::load::{Sizes, USUAL};

/// One family's cast: a client pod, a service, its backends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cast {
    pub(crate) client: SocketAddr,
    pub(crate) service: SocketAddr,
    /// Another frontend of the same service.
    pub(crate) vip: SocketAddr,
    pub(crate) one: SocketAddr,
    pub(crate) two: SocketAddr,
    /// A pod of no service.
    pub(crate) stranger: SocketAddr,
}

/// Both families.
pub(crate) fn casts() -> [Cast; 2] {
    let cast = |all: [&str; 6]| {
        let [client, service, vip, one, two, stranger] = all.map(|address| address.parse().unwrap());
        Cast { client, service, vip, one, two, stranger }
    };
    [
        cast([
            "192.168.1.12:40000",
            "10.96.0.10:80",
            "198.51.100.5:443",
            "192.168.1.11:8080",
            "192.168.2.21:8080",
            "192.168.9.9:80",
        ]),
        cast([
            "[fd00:192:168:1::12]:40000",
            "[fd00:10:96::10]:80",
            "[2001:db8:5::5]:443",
            "[fd00:192:168:1::11]:8080",
            "[fd00:192:168:2::21]:8080",
            "[fd00:192:168:9::9]:80",
        ]),
    ]
}

/// The node's own address, as the harness's first node has it.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// First port of flows from outside.
pub(crate) const SNAT_FIRST: u32 = 20_000;
/// Loaded programs that a test has done with, their maps emptied: the verifier's work is most of what a test costs.
static IDLE: Mutex<Vec<Ebpf>> = Mutex::new(Vec::new());

pub(crate) struct Rig {
    /// `None` only while it is dropped.
    ebpf: Option<Ebpf>,
    /// With tables of the usual size.
    usual: bool,
    next_slot: u32,
    generation: u16,
}

impl Rig {
    /// No services; the sizes of production, but for the connection tables.
    pub(crate) fn new() -> Self {
        let idle = IDLE.lock().unwrap().pop();
        let ebpf = idle.unwrap_or_else(|| load::load(USUAL));
        Self { ebpf: Some(ebpf), usual: true, next_slot: 8, generation: 0 }
    }

    /// With room for `flows` entries in each of the tables of established flows.
    pub(crate) fn with_flows(flows: u32) -> Self {
        Self::of(Sizes { flows, ..USUAL })
    }

    /// With so many ports for flows from outside.
    pub(crate) fn with_ports(ports: u32) -> Self {
        Self::of(Sizes { ports, ..USUAL })
    }

    /// With room for so many slots in each family.
    pub(crate) fn with_slots(slots: u32) -> Self {
        Self::of(Sizes { slots, ..USUAL })
    }

    fn of(sizes: Sizes) -> Self {
        Self { ebpf: Some(load::load(sizes)), usual: false, next_slot: 8, generation: 0 }
    }

    fn ebpf(&self) -> &Ebpf {
        self.ebpf.as_ref().unwrap()
    }

    pub(crate) fn map(&self, name: &str) -> &Map {
        self.ebpf().map(name).unwrap()
    }

    fn map_mut(&mut self, name: &str) -> &mut Map {
        self.ebpf.as_mut().unwrap().map_mut(name).unwrap()
    }

    /// The node loses its addresses, or has them again.
    pub(crate) fn own_addresses(&mut self, has: bool) {
        load::own_addresses(self.ebpf.as_mut().unwrap(), has);
    }

    /// A frontend of the service record `index`, and the mark of its address where it owns that.
    pub(crate) fn frontend(&mut self, index: u32, frontend: SocketAddr, protocol: u8, kind: FrontendKind) {
        let value = FrontendValue::new(index, kind);
        let port = Port::new(frontend.port());
        match frontend {
            SocketAddr::V4(f) => {
                let address = addr4(*f.ip());
                self.mark(marks::frontend(&address));
                self.insert("FRONTENDS_V4", FrontendKey::new(address, port, protocol), value);
                if kind.owns_address() {
                    self.insert("FRONTENDS_V4", FrontendKey::owned(address), FrontendValue::OWNED);
                }
            }
            SocketAddr::V6(f) => {
                let address = addr6(*f.ip());
                self.mark(marks::frontend(&address));
                self.insert("FRONTENDS_V6", FrontendKey::new(address, port, protocol), value);
                if kind.owns_address() {
                    self.insert("FRONTENDS_V6", FrontendKey::owned(address), FrontendValue::OWNED);
                }
            }
        }
    }

    /// The service record `index` is served by `backends` (id and address); its attributes are kept.
    pub(crate) fn backends(&mut self, index: u32, backends: &[(u32, SocketAddr)]) {
        let (base, generation) = (self.next_slot, self.generation + 1);
        self.next_slot += u32::try_from(backends.len()).unwrap();
        self.generation = generation;
        let sorted: BTreeMap<u32, SocketAddr> = backends.iter().copied().collect();
        for (offset, (&backend, &address)) in (base..).zip(&sorted) {
            let port = Port::new(address.port());
            match address {
                SocketAddr::V4(a) => {
                    let slot = Slot { address: addr4(*a.ip()), port, generation, backend, owner: index };
                    self.store("SLOTS_V4", offset, slot);
                }
                SocketAddr::V6(a) => {
                    let slot = Slot { address: addr6(*a.ip()), port, generation, backend, owner: index };
                    self.store("SLOTS_V6", offset, slot);
                }
            }
            self.serving(backend, 1, true);
        }
        self.set(index, SetWord::block(base, u32::try_from(backends.len()).unwrap(), generation));
    }

    /// As [`Self::backends`], with a lookup table behind them.
    pub(crate) fn backends_by_table(&mut self, index: u32, backends: &[(u32, SocketAddr)]) {
        self.backends(index, backends);
        let word = SetWord(self.array::<ServiceRecord>("SERVICES").get(&index, 0).unwrap().cluster).with_table();
        let by_id: Vec<SocketAddr> = BTreeMap::from_iter(backends.iter().copied()).into_values().collect();
        let mut sorted = by_id.clone();
        sorted.sort_unstable();
        let offset = |member: u16| by_id.iter().position(|address| *address == sorted[usize::from(member)]).unwrap();
        let table: Vec<u16> = table(&sorted).into_iter().map(|member| u16::try_from(offset(member)).unwrap()).collect();
        let six = by_id.iter().any(SocketAddr::is_ipv6);
        for (at, entries) in (word.base() + word.count()..).zip(table.chunks(maglev::PER_SLOT as usize)) {
            let mut page = maglev::Page::default();
            page[..entries.len()].copy_from_slice(entries);
            if six {
                let mut slot = [0u16; size_of::<Slot<Addr6>>() / 2];
                slot[..page.len()].copy_from_slice(&page);
                self.store("SLOTS_V6", at, slot);
            } else {
                self.store("SLOTS_V4", at, page);
            }
        }
        self.next_slot = word.base() + word.slots();
        self.set(index, word);
    }

    /// The local set of the service record `index` becomes its cluster set, and the other way round.
    pub(crate) fn swap_sets(&mut self, index: u32) {
        let record: ServiceRecord = self.array("SERVICES").get(&index, 0).unwrap();
        let swapped = ServiceRecord { cluster: record.local, local: record.cluster, ..record };
        self.store("SERVICES", index, swapped);
    }

    /// The set of the service record `index`; its attributes are kept.
    pub(crate) fn set(&mut self, index: u32, set: SetWord) {
        let record: ServiceRecord = self.array("SERVICES").get(&index, 0).unwrap();
        self.store("SERVICES", index, ServiceRecord { cluster: set.0, ..record });
    }

    pub(crate) fn attributes(&mut self, index: u32, attributes: Attributes) {
        let record: ServiceRecord = self.array("SERVICES").get(&index, 0).unwrap();
        self.store("SERVICES", index, ServiceRecord { attributes: attributes.0, ..record });
    }

    pub(crate) fn serving(&mut self, backend: u32, epoch: u32, serving: bool) {
        self.store("BACKENDS", backend, BackendState::new(epoch, serving).0);
    }

    /// A service with a ClusterIP and the given backends, as record 1, in every protocol.
    pub(crate) fn service(&mut self, cast: &Cast, backends: &[(u32, SocketAddr)]) {
        for protocol in [protocol::TCP, protocol::UDP, protocol::SCTP] {
            self.frontend(1, cast.service, protocol, FrontendKind::ClusterIp);
        }
        self.backends(1, backends);
    }

    /// Services live in this range.
    pub(crate) fn service_range(&mut self, address: IpAddr, prefix: u32) {
        self.mark(match address {
            IpAddr::V4(ip) => marks::block(&addr4(ip)),
            IpAddr::V6(ip) => marks::block(&addr6(ip)),
        });
        match address {
            IpAddr::V4(ip) => self.insert_range("SERVICE_CIDRS_V4", Key::new(prefix, addr4(ip))),
            IpAddr::V6(ip) => self.insert_range("SERVICE_CIDRS_V6", Key::new(prefix, addr6(ip))),
        }
    }

    /// Clients of this range may use the guarded VIPs of the service record `index`.
    pub(crate) fn lets_in(&mut self, index: u32, range: IpAddr, prefix: u32) {
        match range {
            IpAddr::V4(ip) => {
                let key = Key::new(32 + prefix, SourceRange { service: index, client: addr4(ip) });
                self.insert_range("SOURCE_RANGES_V4", key);
            }
            IpAddr::V6(ip) => {
                let key = Key::new(32 + prefix, SourceRange { service: index, client: addr6(ip) });
                self.insert_range("SOURCE_RANGES_V6", key);
            }
        }
    }

    /// Addresses with this mark are looked at closely.
    fn mark(&mut self, mark: Mark) {
        let word: u64 = self.array("SERVICE_MARKS").get(&mark.word, 0).unwrap();
        self.store("SERVICE_MARKS", mark.word, word | mark.bits);
    }

    /// Every mark that there is.
    pub(crate) fn mark_everything(&mut self) {
        for name in ["SERVICE_MARKS", "ANSWER_MARKS"] {
            load::set_marks(self.ebpf.as_mut().unwrap(), name, u64::MAX);
        }
    }

    /// Takes back what no agent takes back.
    pub(crate) fn unmark_services(&mut self) {
        load::set_marks(self.ebpf.as_mut().unwrap(), "SERVICE_MARKS", 0);
    }

    fn insert_range<A: Pod>(&mut self, map: &str, key: Key<A>) {
        let mut map: LpmTrie<&mut MapData, A, u32> = self.map_mut(map).try_into().unwrap();
        map.insert(&key, 1, 0).unwrap();
    }

    /// The pod sends a packet.
    pub(crate) fn pod_sends(&self, packet: &Packet) -> Outcome {
        self.pod_sends_frame(&packet.frame())
    }

    /// The pod is sent a packet.
    pub(crate) fn pod_is_sent(&self, packet: &Packet) -> Outcome {
        self.pod_is_sent_frame(&packet.frame())
    }

    pub(crate) fn pod_sends_frame(&self, frame: &[u8]) -> Outcome {
        test_run::run(self.program("mr_from_pod"), frame, None).unwrap()
    }

    pub(crate) fn pod_is_sent_frame(&self, frame: &[u8]) -> Outcome {
        test_run::run(self.program("mr_to_pod"), frame, None).unwrap()
    }

    pub(crate) fn program(&self, name: &str) -> &SchedClassifier {
        self.ebpf().program(name).unwrap().try_into().unwrap()
    }

    pub(crate) fn xdp(&self) -> &Xdp {
        self.ebpf().program("mr_xdp").unwrap().try_into().unwrap()
    }

    /// XDP may send to this device.
    pub(crate) fn xdp_target(&mut self, device: u32) {
        self.insert("XDP_TARGETS", device, 1u32);
    }

    /// How often something happened since the rig was set up.
    pub(crate) fn count(&self, verdict: Verdict) -> u64 {
        let stats: PerCpuArray<_, u64> = self.map("STATS").try_into().unwrap();
        stats.get(&(verdict as u32), 0).unwrap().iter().sum()
    }

    /// Every verdict that was counted, by name.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        Verdict::ALL.iter().map(|v| (v.name(), self.count(*v))).filter(|(_, n)| *n > 0).collect()
    }

    pub(crate) fn entries<K: Pod, V: Pod>(&self, map: &str) -> Vec<(K, V)> {
        let map: HashMap<_, K, V> = self.map(map).try_into().unwrap();
        map.iter().map(Result::unwrap).collect()
    }

    pub(crate) fn insert<K: Pod, V: Pod>(&mut self, map: &str, key: K, value: V) {
        let mut map: HashMap<&mut MapData, K, V> = self.map_mut(map).try_into().unwrap();
        map.insert(key, value, 0).unwrap();
    }

    pub(crate) fn remove<K: Pod, V: Pod>(&mut self, map: &str, key: &K) {
        let mut map: HashMap<&mut MapData, K, V> = self.map_mut(map).try_into().unwrap();
        map.remove(key).unwrap();
    }

    pub(crate) fn array<V: Pod>(&self, map: &str) -> Array<&MapData, V> {
        self.map(map).try_into().unwrap()
    }

    pub(crate) fn store<V: Pod>(&mut self, map: &str, index: u32, value: V) {
        let mut map: Array<&mut MapData, V> = self.map_mut(map).try_into().unwrap();
        map.set(index, value, 0).unwrap();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.usual
            && !thread::panicking()
            && let Some(mut ebpf) = self.ebpf.take()
        {
            load::empty(&mut ebpf);
            IDLE.lock().unwrap().push(ebpf);
        }
    }
}

/// The same packet, in TCP's and in UDP's words: the first of its flow.
pub(crate) fn openings(source: SocketAddr, destination: SocketAddr) -> [Packet; 2] {
    [Packet::tcp(source, destination, Flags::SYN), Packet::udp(source, destination, b"question")]
}

/// What answers `packet`, from `source`.
pub(crate) fn answer(packet: &Packet, source: SocketAddr, destination: SocketAddr) -> Packet {
    match packet.body {
        Body::Tcp { .. } => Packet::tcp(source, destination, Flags::SYN_ACK),
        _ => Packet::udp(source, destination, b"answer"),
    }
}
