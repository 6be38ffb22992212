//! The programs with maps of their own, filled as the agent fills them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{
        Array, HashMap, MapData, PerCpuArray,
        lpm_trie::{Key, LpmTrie},
    },
    programs::SchedClassifier,
};
use millrace_agent::datapath::object;
use millrace_common::{
    address::{Port, addr4, addr6, protocol},
    backend::{BackendState, Slot},
    frontend::{FrontendKey, FrontendKind, FrontendValue},
    service::{Attributes, ServiceRecord, SetWord},
    verdict::Verdict,
};
use millrace_tests::{
    packet::{Body, Packet},
    test_run::{self, Outcome},
};

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

pub(crate) struct Rig {
    pub(crate) ebpf: Ebpf,
    next_slot: u32,
    generation: u16,
}

impl Rig {
    /// No services; the sizes of production, but for the connection tables.
    pub(crate) fn new() -> Self {
        Self::with_flows(1024)
    }

    /// With room for `entries` in each of the tables of established flows.
    pub(crate) fn with_flows(entries: u32) -> Self {
        let mut loader = EbpfLoader::new();
        for (name, size) in [
            ("CT_V4", entries),
            ("CT_V6", entries),
            ("CT_NEW_V4", 1024),
            ("CT_NEW_V6", 1024),
            ("SLOTS_V4", 1024),
            ("SLOTS_V6", 1024),
            ("BACKENDS", 1024),
            ("SERVICES", 64),
            ("NAMES", 64),
        ] {
            loader.map_max_entries(name, size);
        }
        let mut ebpf = loader.load(object()).unwrap_or_else(|e| panic!("the programs do not load (root?): {e}"));
        for name in ["mr_from_pod", "mr_to_pod", "mr_sweep"] {
            let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.load().unwrap_or_else(|e| panic!("{name}: {e:?}"));
        }
        Self { ebpf, next_slot: 8, generation: 0 }
    }

    /// A frontend of the service record `index`, and the mark of its address.
    pub(crate) fn frontend(&mut self, index: u32, frontend: SocketAddr, protocol: u8, kind: FrontendKind) {
        let value = FrontendValue::new(index, kind);
        let port = Port::new(frontend.port());
        match frontend {
            SocketAddr::V4(f) => {
                let address = addr4(*f.ip());
                self.insert("FRONTENDS_V4", FrontendKey::new(address, port, protocol), value);
                self.insert("FRONTENDS_V4", FrontendKey::owned(address), FrontendValue::OWNED);
            }
            SocketAddr::V6(f) => {
                let address = addr6(*f.ip());
                self.insert("FRONTENDS_V6", FrontendKey::new(address, port, protocol), value);
                self.insert("FRONTENDS_V6", FrontendKey::owned(address), FrontendValue::OWNED);
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

    /// A TCP and UDP service with a ClusterIP and the given backends, as record 1.
    pub(crate) fn service(&mut self, cast: &Cast, backends: &[(u32, SocketAddr)]) {
        for protocol in [protocol::TCP, protocol::UDP] {
            self.frontend(1, cast.service, protocol, FrontendKind::ClusterIp);
        }
        self.backends(1, backends);
    }

    /// Services live in this range.
    pub(crate) fn service_range(&mut self, address: IpAddr, prefix: u32) {
        match address {
            IpAddr::V4(ip) => self.insert_range("SERVICE_CIDRS_V4", Key::new(prefix, addr4(ip))),
            IpAddr::V6(ip) => self.insert_range("SERVICE_CIDRS_V6", Key::new(prefix, addr6(ip))),
        }
    }

    fn insert_range<A: Pod>(&mut self, map: &str, key: Key<A>) {
        let mut map: LpmTrie<&mut MapData, A, u32> = self.ebpf.map_mut(map).unwrap().try_into().unwrap();
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
        self.ebpf.program(name).unwrap().try_into().unwrap()
    }

    /// How often something happened since the rig was set up.
    pub(crate) fn count(&self, verdict: Verdict) -> u64 {
        let stats: PerCpuArray<_, u64> = self.ebpf.map("STATS").unwrap().try_into().unwrap();
        stats.get(&(verdict as u32), 0).unwrap().iter().sum()
    }

    /// Every verdict that was counted, by name.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        Verdict::ALL.iter().map(|v| (v.name(), self.count(*v))).filter(|(_, n)| *n > 0).collect()
    }

    pub(crate) fn entries<K: Pod, V: Pod>(&self, map: &str) -> Vec<(K, V)> {
        let map: HashMap<_, K, V> = self.ebpf.map(map).unwrap().try_into().unwrap();
        map.iter().map(Result::unwrap).collect()
    }

    pub(crate) fn insert<K: Pod, V: Pod>(&mut self, map: &str, key: K, value: V) {
        let mut map: HashMap<&mut MapData, K, V> = self.ebpf.map_mut(map).unwrap().try_into().unwrap();
        map.insert(key, value, 0).unwrap();
    }

    pub(crate) fn remove<K: Pod, V: Pod>(&mut self, map: &str, key: &K) {
        let mut map: HashMap<&mut MapData, K, V> = self.ebpf.map_mut(map).unwrap().try_into().unwrap();
        map.remove(key).unwrap();
    }

    pub(crate) fn array<V: Pod>(&self, map: &str) -> Array<&MapData, V> {
        self.ebpf.map(map).unwrap().try_into().unwrap()
    }

    fn store<V: Pod>(&mut self, map: &str, index: u32, value: V) {
        let mut map: Array<&mut MapData, V> = self.ebpf.map_mut(map).unwrap().try_into().unwrap();
        map.set(index, value, 0).unwrap();
    }
}

/// The same packet, in TCP's and in UDP's words: the first of its flow.
pub(crate) fn openings(source: SocketAddr, destination: SocketAddr) -> [Packet; 2] {
    use millrace_tests::packet::Flags;
    [Packet::tcp(source, destination, Flags::SYN), Packet::udp(source, destination, b"question")]
}

/// What answers `packet`, from `source`.
pub(crate) fn answer(packet: &Packet, source: SocketAddr, destination: SocketAddr) -> Packet {
    use millrace_tests::packet::Flags;
    match packet.body {
        Body::Tcp { .. } => Packet::tcp(source, destination, Flags::SYN_ACK),
        _ => Packet::udp(source, destination, b"answer"),
    }
}
