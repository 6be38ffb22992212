//! The programs as they are loaded, and their maps emptied for the next test.

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{
        Array, HashMap, PerCpuArray, PerCpuValues,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{SchedClassifier, Xdp},
};
use millrace_agent::datapath::object;
use millrace_common::{
    address::{Addr4, Addr6, addr4, addr6},
    affinity::{AffinityKey, AffinityValue},
    answer::Bucket,
    flow::{Flow, Tuple, loop_address},
    fragment::{FragmentKey, FragmentPorts},
    frontend::{FrontendKey, FrontendValue},
    marks,
    node::OwnAddress,
    service::{ServiceRecord, SourceRange},
};
use millrace_tests::address::twin;

use super::{NODE, SNAT_FIRST};

/// Of the maps whose size no test is about.
const SIZES: [(&str, u32); 5] =
    [("CT_NEW_V4", 1024), ("CT_NEW_V6", 1024), ("BACKENDS", 1024), ("SERVICES", 64), ("NAMES", 64)];

/// What a test may be about.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// Entries in each of the tables of established flows.
    pub(super) flows: u32,
    /// Ports for flows from outside.
    pub(super) ports: u32,
    pub(super) slots: u32,
}

pub(super) const USUAL: Sizes = Sizes { flows: 1024, ports: 1000, slots: 1024 };

pub(super) fn load(sizes: Sizes) -> Ebpf {
    let Sizes { flows, ports, slots } = sizes;
    let mut loader = EbpfLoader::new();
    loader.override_global("SNAT_FIRST_PORT", &SNAT_FIRST, true).override_global("SNAT_PORTS", &ports, true);
    let of_the_test = [("CT_V4", flows), ("CT_V6", flows), ("SLOTS_V4", slots), ("SLOTS_V6", slots)];
    for (name, size) in of_the_test.into_iter().chain(SIZES) {
        loader.map_max_entries(name, size);
    }
    let mut ebpf = loader.load(object()).unwrap_or_else(|e| panic!("the programs do not load (root?): {e}"));
    for name in ["mr_from_pod", "mr_to_pod", "mr_from_uplink", "mr_to_uplink", "mr_sweep"] {
        let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
        program.load().unwrap_or_else(|e| panic!("{name}: {e:?}"));
    }
    mark_loops(&mut ebpf);
    own_addresses(&mut ebpf, true);
    let xdp: &mut Xdp = ebpf.program_mut("mr_xdp").unwrap().try_into().unwrap();
    xdp.load().unwrap_or_else(|e| panic!("mr_xdp: {e:?}"));
    ebpf
}

pub(super) fn set_marks(ebpf: &mut Ebpf, name: &str, word: u64) {
    let mut marks: Array<_, u64> = ebpf.map_mut(name).unwrap().try_into().unwrap();
    (0..marks.len()).for_each(|i| marks.set(i, word, 0).unwrap());
}

/// As the agent does before it attaches anything.
fn mark_loops(ebpf: &mut Ebpf) {
    let mut map: Array<_, u64> = ebpf.map_mut("SERVICE_MARKS").unwrap().try_into().unwrap();
    for mark in [marks::frontend(&loop_address::V4), marks::frontend(&loop_address::V6)] {
        let word = map.get(&mark.word, 0).unwrap();
        map.set(mark.word, word | mark.bits, 0).unwrap();
    }
}

/// The node's one address of each family, or none.
pub(super) fn own_addresses(ebpf: &mut Ebpf, has: bool) {
    fn set<A: Pod>(ebpf: &mut Ebpf, name: &str, address: A, has: bool) {
        let mut map: HashMap<_, A, u32> = ebpf.map_mut(name).unwrap().try_into().unwrap();
        if has {
            map.insert(address, 1, 0).unwrap();
        } else {
            map.remove(&address).unwrap();
        }
    }
    let (v4, v6) = (addr4(NODE), addr6(twin(NODE)));
    set(ebpf, "NODE_ADDRESSES_V4", v4, has);
    set(ebpf, "NODE_ADDRESSES_V6", v6, has);
    let own = if has { OwnAddress { v4, v6, ..OwnAddress::default() } } else { OwnAddress::default() };
    let mut map: Array<_, OwnAddress> = ebpf.map_mut("NODE_ADDRESS").unwrap().try_into().unwrap();
    map.set(0, own, 0).unwrap();
}

/// Empties the maps, so that the next test finds them as they were loaded. Slots may stay: nothing points to them.
pub(super) fn empty(ebpf: &mut Ebpf) {
    fn hash<K: Pod, V: Pod>(ebpf: &mut Ebpf, name: &str) {
        let mut map: HashMap<_, K, V> = ebpf.map_mut(name).unwrap().try_into().unwrap();
        let keys: Vec<K> = map.keys().map(Result::unwrap).collect();
        keys.iter().for_each(|key| map.remove(key).unwrap());
    }
    fn trie<K: Pod>(ebpf: &mut Ebpf, name: &str) {
        let mut map: LpmTrie<_, K, u32> = ebpf.map_mut(name).unwrap().try_into().unwrap();
        let keys: Vec<Key<K>> = map.keys().map(Result::unwrap).collect();
        keys.iter().for_each(|key| map.remove(key).unwrap());
    }
    fn family<A>(ebpf: &mut Ebpf, suffix: &str)
    where
        A: Pod,
        FrontendKey<A>: Pod,
        Tuple<A>: Pod,
        Flow<A>: Pod,
        AffinityKey<A>: Pod,
        FragmentKey<A>: Pod,
        SourceRange<A>: Pod,
    {
        hash::<FrontendKey<A>, FrontendValue>(ebpf, &format!("FRONTENDS_{suffix}"));
        hash::<Tuple<A>, Flow<A>>(ebpf, &format!("CT_{suffix}"));
        hash::<Tuple<A>, Flow<A>>(ebpf, &format!("CT_NEW_{suffix}"));
        hash::<AffinityKey<A>, AffinityValue>(ebpf, &format!("AFFINITY_{suffix}"));
        hash::<FragmentKey<A>, FragmentPorts>(ebpf, &format!("FRAGMENTS_{suffix}"));
        trie::<A>(ebpf, &format!("SERVICE_CIDRS_{suffix}"));
        trie::<SourceRange<A>>(ebpf, &format!("SOURCE_RANGES_{suffix}"));
    }
    family::<Addr4>(ebpf, "V4");
    family::<Addr6>(ebpf, "V6");
    hash::<u32, u32>(ebpf, "XDP_TARGETS");
    set_marks(ebpf, "SERVICE_MARKS", 0);
    set_marks(ebpf, "ANSWER_MARKS", 0);
    mark_loops(ebpf);
    own_addresses(ebpf, true);
    let mut records: Array<_, ServiceRecord> = ebpf.map_mut("SERVICES").unwrap().try_into().unwrap();
    (0..records.len()).for_each(|i| records.set(i, ServiceRecord::default(), 0).unwrap());
    let mut stats: PerCpuArray<_, u64> = ebpf.map_mut("STATS").unwrap().try_into().unwrap();
    let cpus = stats.get(&0, 0).unwrap().len();
    (0..stats.len()).for_each(|i| stats.set(i, PerCpuValues::try_from(vec![0; cpus]).unwrap(), 0).unwrap());
    let mut answers: PerCpuArray<_, Bucket> = ebpf.map_mut("ANSWERS").unwrap().try_into().unwrap();
    answers.set(0, PerCpuValues::try_from(vec![Bucket::default(); cpus]).unwrap(), 0).unwrap();
}
