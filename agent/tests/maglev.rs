//! What a Service with the annotation `millrace.io/algorithm: maglev` is promised: fair shares, few flows that move when
//! an endpoint comes or goes, and one choice for a flow on all nodes.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use millrace_agent::{
    datapath::{MemoryTables, carry_out},
    diff::{Planner, Sizes, Snapshot},
    lb::{Family, WantedPort, table},
    model::Algorithm,
};
use millrace_common::{maglev::size, service::SetWord};
use proptest::prelude::*;
use support::wanted::{key, port, set};

fn endpoints(six: bool, hosts: &BTreeSet<u16>) -> Vec<SocketAddr> {
    let address = |host: &u16| -> IpAddr {
        if six {
            Ipv6Addr::from(0xfd00 << 112 | u128::from(*host)).into()
        } else {
            Ipv4Addr::from(0x0a00_0000 | u32::from(*host)).into()
        }
    };
    hosts.iter().map(|host| SocketAddr::new(address(host), 8080)).collect()
}

/// Who has each place.
fn holders(endpoints: &[SocketAddr]) -> Vec<SocketAddr> {
    table(endpoints).into_iter().map(|member| endpoints[usize::from(member)]).collect()
}

fn hosts(count: std::ops::Range<usize>) -> impl Strategy<Value = BTreeSet<u16>> {
    prop::collection::btree_set(0..u16::MAX, count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No endpoint has two places more than another.
    #[test]
    fn shares_are_equal(six: bool, hosts in hosts(1..200)) {
        let endpoints = endpoints(six, &hosts);
        let mut shares: BTreeMap<SocketAddr, usize> = endpoints.iter().map(|endpoint| (*endpoint, 0)).collect();
        for holder in holders(&endpoints) {
            *shares.entry(holder).or_default() += 1;
        }
        let (least, most) = (shares.values().min().unwrap_or(&0), shares.values().max().unwrap_or(&0));
        prop_assert_eq!(shares.len(), endpoints.len());
        prop_assert!(most - least <= 1, "{} to {}", least, most);
        prop_assert_eq!(shares.values().sum::<usize>(), size(endpoints.len() as u32) as usize);
    }

    /// One endpoint goes: its flows go to the others, and of the others' flows few move. Read the other way round, it is
    /// one that comes.
    #[test]
    fn few_flows_move_with_an_endpoint(six: bool, hosts in hosts(2..150), gone: prop::sample::Index) {
        let all = endpoints(six, &hosts);
        let gone = all[gone.index(all.len())];
        let rest: Vec<SocketAddr> = all.iter().copied().filter(|endpoint| *endpoint != gone).collect();
        prop_assume!(size(all.len() as u32) == size(rest.len() as u32));
        let (before, after) = (holders(&all), holders(&rest));
        prop_assert!(!after.contains(&gone));
        let moved = before.iter().zip(&after).filter(|(before, after)| **before != gone && before != after).count();
        prop_assert!(moved * 100 <= before.len() * LIMIT, "{} of {} with {} endpoints", moved, before.len(), all.len());
    }
}

/// Percent of the flows of endpoints that stay. A choice that starts from nothing would move nearly all.
const LIMIT: usize = 15;

const SIZES: Sizes = Sizes { services: 16, frontends: 64, backends: 64, slots: 512, source_ranges: 16 };

struct Node {
    planner: Planner,
    tables: MemoryTables,
}

impl Node {
    fn new() -> Self {
        Self { planner: Planner::new(SIZES), tables: MemoryTables::new(SIZES) }
    }

    fn bring(&mut self, port: &WantedPort) -> Vec<String> {
        let plan = self.planner.plan([(&port.name.service, std::slice::from_ref(port))]);
        let outcome = carry_out(&plan, &mut self.planner, &mut self.tables);
        assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
        if let Some(ticket) = self.planner.pending_grace() {
            self.planner.graced(ticket);
        }
        plan.refused.iter().map(ToString::to_string).collect()
    }

    /// Who has each place of the only service's table; `None`: it has none.
    fn holders(&self) -> Option<Vec<SocketAddr>> {
        holders_in(&self.tables.snapshot())
    }
}

fn holders_in(snapshot: &Snapshot) -> Option<Vec<SocketAddr>> {
    let word = SetWord(snapshot.records.values().next()?.cluster);
    let member = |at: &u16| snapshot.slots[&(Family::V4, word.base() + u32::from(*at))].address;
    word.has_table().then(|| snapshot.tables[&(Family::V4, word.base())].iter().map(member).collect())
}

fn maglev(hosts: &[u8]) -> WantedPort {
    WantedPort { algorithm: Algorithm::Maglev, ..port(1, hosts) }
}

/// Nodes give endpoints ids in the order in which they come, so that their blocks are sorted otherwise: the same flow
/// finds the same endpoint all the same.
#[test]
fn nodes_that_saw_endpoints_come_in_another_order_choose_alike() {
    let (mut one, mut other) = (Node::new(), Node::new());
    for hosts in [&[7][..], &[3, 7], &[3, 5, 7], &[1, 3, 5, 7]] {
        one.bring(&maglev(hosts));
    }
    other.bring(&maglev(&[1, 9]));
    other.bring(&maglev(&[1, 3, 5, 7]));
    let ids =
        |node: &Node| -> Vec<SocketAddr> { node.tables.snapshot().slots.values().map(|slot| slot.address).collect() };
    assert_ne!(ids(&one), ids(&other), "the blocks are sorted otherwise");
    let holders = one.holders();
    assert_eq!(holders, other.holders());
    assert_eq!(holders, Some(self::holders(&support::wanted::endpoints(1, &[1, 3, 5, 7]))));
}

/// The annotation comes and goes while the Service serves; its endpoints keep their ids, and so their flows.
#[test]
fn the_algorithm_changes_with_the_annotation() {
    let mut node = Node::new();
    node.bring(&port(1, &[1, 2]));
    assert_eq!(node.holders(), None);
    let backends = node.tables.snapshot().backends;
    node.bring(&maglev(&[1, 2]));
    assert!(node.holders().is_some());
    node.bring(&port(1, &[1, 2]));
    assert_eq!(node.holders(), None);
    assert_eq!(node.tables.snapshot().backends, backends);
    node.planner.plan([(&key("s1"), [].as_slice())]);
    assert_eq!(node.planner.usage().slots[0].free, SIZES.slots - 2, "the table's room is free again");
}

/// A table takes more room than its endpoints: where there is none, the Service is served as before, and the flag that
/// helps is named.
#[test]
fn a_table_without_room_is_refused_by_name() {
    let mut node = Node::new();
    node.bring(&port(1, &[1, 2]));
    let many: Vec<u8> = (1..=20).collect();
    let refused = node.bring(&WantedPort { cluster: set(1, &many), ..maglev(&many) });
    assert_eq!(refused, ["shop/s1:http/TCP/v4: the map SLOTS_V4 is full (512 entries); raise --max-slots"]);
    let snapshot = node.tables.snapshot();
    assert_eq!(snapshot.slots.len(), 2, "what was there still serves");
}

/// Every node builds the same table for a set; what was written down here must never change, or nodes of two versions
/// disagree while one replaces the other.
#[test]
fn the_table_is_the_same_in_every_version() {
    let holders = holders(&endpoints(false, &BTreeSet::from([1, 2, 3])));
    let first: Vec<u8> = holders
        .iter()
        .take(16)
        .map(|holder| match holder.ip() {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        })
        .collect();
    assert_eq!(first, [1, 2, 2, 1, 2, 1, 1, 2, 1, 1, 2, 1, 2, 2, 1, 2]);
}
