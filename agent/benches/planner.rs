//! What the pure stages cost, without a kernel: seconds to take in, decide, plan and write N services of ten
//! endpoints to maps in memory, the resident memory that the agent's own state takes, and one changed slice.
//!
//! Seconds are of processor time, so that a busy machine changes little.
//!
//! `cargo bench -p millrace-agent --bench planner [-- N...]`
#![expect(clippy::unwrap_used, reason = "a measurement ends at what it did not expect")]

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use millrace_agent::{
    datapath::{MemoryTables, carry_out},
    diff::{Planner, Sizes},
    lb::{Balancer, NodeInfo},
    model::{
        Algorithm, Endpoint, EndpointSlice, Index, Policy, Protocol, Service, ServiceKey, ServicePort, SliceKey,
        SlicePort, Topology,
    },
    watch::Change,
};

const ENDPOINTS: u32 = 10;
/// Services planned at a time, as the agent does it.
const BATCH: usize = 256;

fn main() {
    // cargo passes `--bench`.
    let mut sizes: Vec<u32> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![10_000, 100_000];
    }
    println!("services  take in  decide    plan   write   total  index MiB  planner MiB  one change us");
    for services in sizes {
        measure(services);
    }
}

fn measure(services: u32) {
    let sizes = Sizes {
        services: services.next_power_of_two(),
        frontends: (4 * services).next_power_of_two(),
        backends: (2 * services * ENDPOINTS).next_power_of_two(),
        slots: (2 * services * ENDPOINTS).next_power_of_two(),
        source_ranges: 1,
    };
    let mut tables = MemoryTables::new(sizes);
    let mut balancer = Balancer::new(NodeInfo { name: "n1".into(), ..NodeInfo::default() });
    let (mut index, mut planner) = (Index::default(), Planner::new(sizes));
    let mut took = [Duration::ZERO; 4];
    let mut dirty = BTreeSet::new();
    let before = resident();
    for at in 0..services {
        let changes = [
            Change::Service(key(at), Some(Box::new(service(at)))),
            Change::EndpointSlice(SliceKey::new("bench", &format!("s{at}-x")), Some(Box::new(slice(at, false)))),
        ];
        let start = CpuTime::now();
        changes.into_iter().for_each(|change| dirty.extend(index.apply(change).services));
        took[0] += start.elapsed();
    }
    let index_bytes = resident() - before;
    let before = resident();
    while !dirty.is_empty() {
        let mut batch = BTreeSet::new();
        while let (true, Some(key)) = (batch.len() < BATCH, dirty.pop_first()) {
            batch.insert(key);
        }
        let start = CpuTime::now();
        let decisions = balancer.decide(&index, batch);
        took[1] += start.elapsed();
        let start = CpuTime::now();
        let plan = planner.plan(decisions.iter().map(|(key, decision)| (key, decision.ports.as_slice())));
        took[2] += start.elapsed();
        let start = CpuTime::now();
        let outcome = carry_out(&plan, &mut planner, &mut tables);
        took[3] += start.elapsed();
        assert!(outcome.errors.is_empty() && plan.refused.is_empty());
    }
    let planner_bytes = resident() - before;
    let one = one_change(services, &mut index, &mut balancer, &mut planner, &mut tables);
    let [take_in, decide, plan, write] = took.map(|took| took.as_secs_f64());
    let mib = |bytes: i64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{services:>8} {take_in:>7.3}s {decide:>6.3}s {plan:>6.3}s {write:>6.3}s {:>6.3}s {:>10.1} {:>12.1} {one:>14.1}",
        take_in + decide + plan + write,
        mib(index_bytes),
        mib(planner_bytes),
    );
}

/// Microseconds from a changed slice to its effect, the median of many.
fn one_change(
    services: u32,
    index: &mut Index,
    balancer: &mut Balancer,
    planner: &mut Planner,
    tables: &mut MemoryTables,
) -> f64 {
    let mut took: Vec<Duration> = Vec::new();
    for round in 0..1_000u32 {
        let slice = slice((round * 7919) % services, true);
        let start = CpuTime::now();
        let dirty = index.apply(Change::EndpointSlice(slice.key.clone(), Some(Box::new(slice)))).services;
        let decisions = balancer.decide(index, dirty);
        let plan = planner.plan(decisions.iter().map(|(key, decision)| (key, decision.ports.as_slice())));
        carry_out(&plan, planner, tables);
        took.push(start.elapsed());
        if let Some(ticket) = planner.pending_grace() {
            planner.graced(ticket);
        }
    }
    took.sort_unstable();
    took[took.len() / 2].as_secs_f64() * 1e6
}

fn key(at: u32) -> ServiceKey {
    ServiceKey::new("bench", &format!("s{at}"))
}

fn service(at: u32) -> Service {
    Service {
        key: key(at),
        created: 1,
        cluster_ips: [IpAddr::from(Ipv4Addr::from(0x0a60_0000 + at + 1))].into(),
        external_ips: Box::default(),
        load_balancer_vips: Box::default(),
        source_ranges: Box::default(),
        ports: [ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: 0 }].into(),
        internal_policy: Policy::Cluster,
        external_policy: Policy::Cluster,
        algorithm: Algorithm::Random,
        affinity_seconds: None,
        health_check_port: 0,
    }
}

fn slice(at: u32, scaled_down: bool) -> EndpointSlice {
    let endpoint = |n: u32| Endpoint {
        address: Ipv4Addr::from(0x0b00_0000 + at * ENDPOINTS + n).into(),
        ready: true,
        serving: true,
        terminating: false,
        topology: Some(Arc::new(Topology {
            node: Some(format!("node-{}", (at + n) % 1_000).into()),
            zones: [["a", "b", "c"][n as usize % 3].into()].into(),
            nodes: Box::default(),
        })),
    };
    EndpointSlice {
        key: SliceKey::new("bench", &format!("s{at}-x")),
        service: key(at),
        ports: [SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }].into(),
        endpoints: (u32::from(scaled_down)..ENDPOINTS).map(endpoint).collect(),
        triggered: None,
    }
}

/// A clock that stands still while other processes have the processor: what counts is the work.
struct CpuTime(Duration);

impl CpuTime {
    fn now() -> Self {
        let spent = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap();
        Self(spent.into())
    }

    fn elapsed(&self) -> Duration {
        Self::now().0 - self.0
    }
}

/// Bytes of resident memory.
fn resident() -> i64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: i64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}
