//! What a connection costs in instructions, of client, server and kernel together: direct, through millrace, and through
//! what it is measured against. Runs in a machine in which a nanosecond is an instruction; `cargo xtask instructions`
//! boots it and keeps the record (docs/instructions.md).

use std::{collections::BTreeSet, env, fs, net::SocketAddr, path::PathBuf, rc::Rc, time::Duration};

use millrace_agent::lb::Family;
use millrace_bench::{
    cluster::{Clients, Cluster, Families, PORT, Position, cluster_ip},
    contestants::{self, Kind, Tooling},
    stats::percentile,
    topology::Topology,
};

/// For xtask, which reads the console.
const WORD: &str = "MILLRACE-RECORD";

/// What is compared with the record on every run, and the numbers of services.
const WATCHED: [(Kind, u32); 4] =
    [(Kind::Direct, 0), (Kind::Millrace, 1), (Kind::Millrace, 1000), (Kind::MillraceTc, 1)];

/// What stands beside it in the record, the slowest to lay out last. Ten thousand services are too many for nf_tables' tools,
/// nft and iptables over it: they take a real processor one minute and more than two, and an emulated one took a quarter of an
/// hour and 25 minutes without an end.
const RECORDED: [(Kind, u32); 12] = [
    (Kind::Millrace, 10_000),
    (Kind::MillraceTc, 10_000),
    (Kind::Nftables, 1),
    (Kind::Nftables, 1000),
    (Kind::IptablesNft, 1),
    (Kind::IptablesNft, 1000),
    (Kind::IptablesLegacy, 1),
    (Kind::IptablesLegacy, 1000),
    (Kind::Ipvs, 1),
    (Kind::Ipvs, 1000),
    (Kind::Ipvs, 10_000),
    (Kind::IptablesLegacy, 10_000),
];

/// Opens a line that says who was counted.
const VERSION: &str = "version";

/// Of each count.
const CONNECTIONS: u32 = 400;

#[test]
#[ignore = "counts where time counts instructions: cargo xtask instructions"]
fn instructions_of_a_connection() {
    let recorded = if env::var_os("MILLRACE_RECORD").is_some() { &RECORDED[..] } else { &[] };
    let release = env::var_os("MILLRACE_RIVALS").map(PathBuf::from);
    let mut known = BTreeSet::new();
    if !recorded.is_empty() {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        println!("{WORD} {VERSION} | kernel | {}", kernel.trim());
    }
    for &(kind, services) in WATCHED.iter().chain(recorded) {
        let cluster = Cluster { services, families: Families::V4, clients: Clients::Pods };
        let topology = Rc::new(Topology::create(Clients::Pods).unwrap());
        let tooling = Tooling { limit: Duration::MAX, release: release.clone() };
        let mut contestant =
            contestants::create(kind, &topology, cluster, &tooling).unwrap().expect("Debian's kernel has them all");
        if kind.is_rival() && known.insert(kind) {
            println!("{WORD} {VERSION} | {} | {}", kind.name(), contestant.version().unwrap().unwrap_or_default());
        }
        contestant.program().unwrap();
        let direct = topology.direct(false)[0];
        if kind == Kind::Direct {
            say(kind.name(), services, &topology.count(direct, CONNECTIONS).unwrap());
            continue;
        }
        if kind == Kind::Millrace {
            say("past millrace", services, &topology.count(direct, CONNECTIONS).unwrap());
        }
        let service = SocketAddr::new(cluster_ip(cluster.at(Position::Last), Family::V4), PORT);
        say(kind.name(), services, &topology.count(service, CONNECTIONS).unwrap());
    }
}

/// The median, which the record has, and for a person the quartiles and the mean: in it are the kernel's ticks and the
/// agent's own work.
fn say(way: &str, services: u32, instructions: &[u64]) {
    let [low, median, high] = [25.0, 50.0, 75.0].map(|percent| percentile(instructions, percent));
    let mean = instructions.iter().sum::<u64>() / instructions.len() as u64;
    println!("{WORD} {way} | {services} | {median} | {low} to {high}, mean {mean}");
}
