//! The race as a node has it: the agent's own planner and grace periods at work on pinned maps. Services come and go, flip
//! their endpoints and hand an address to each other, and what one of them leaves is another's soon: elements of
//! FRONTENDS, records, blocks, backends.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    thread,
};

use aya::programs::SchedClassifier;
use millrace_agent::{
    datapath::{self, Constants, KernelTables, Limits, Loaded, Pins, PinsLock, carry_out, grace, verdicts},
    diff::{Op, Planner},
    lb::{Family, Frontend, PortName, Set, WantedPort},
    model::{Algorithm, Protocol, ServiceKey},
};
use millrace_common::{frontend::FrontendKind, service::Attributes, verdict::Verdict};
use millrace_tests::{
    address::in_family,
    bpffs::Bpffs,
    test_run::{Action, Outcome},
};

use super::readers::{self, Connection, Stop};

/// Two are always there, and have the address [`SHARED`] in turn; of the others one comes and one goes at a time.
const SERVICES: u8 = 8;
const STAYING: u8 = 2;
const SHARED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 5);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
/// Endpoints that each has at some time, and at most at a time.
const ENDPOINTS: u8 = 12;
const AT_A_TIME: u8 = 5;
/// Plans that change endpoints only, after each one that deletes and inserts frontends.
const FLIPS: u32 = 4;

/// As few entries as will do: what is freed is used again at once.
const LIMITS: Limits = Limits {
    services: 16,
    frontends: 64,
    backends: 64,
    slots: 128,
    source_ranges: 16,
    flows: 1024,
    affinity: 64,
    sockets: 64,
};

fn frontend(v6: bool, address: Ipv4Addr) -> SocketAddr {
    SocketAddr::new(in_family(address, v6), 80)
}

fn cluster_ip(service: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 7, service)
}

/// Its port says which endpoint of which service it is, its address says the same.
fn endpoint(v6: bool, service: u8, number: u8) -> SocketAddr {
    let ip = in_family(Ipv4Addr::new(192, 168, 100 + service, number), v6);
    SocketAddr::new(ip, 1000 + 100 * u16::from(service) + u16::from(number))
}

/// What is wanted of a service at a time: nothing of one that is away.
fn wanted(v6: bool, service: u8, time: u32) -> (ServiceKey, Vec<WantedPort>) {
    let key = ServiceKey::new("race", &format!("s{service}"));
    if !is_there(service, time) {
        return (key, Vec::new());
    }
    // Another window of its endpoints each time, of another length.
    let first = time as usize * 5 + usize::from(service);
    let count = 1 + (time as usize + usize::from(service)) % usize::from(AT_A_TIME);
    let number = |i| u8::try_from((first + i) % usize::from(ENDPOINTS)).unwrap();
    let endpoints: BTreeSet<SocketAddr> = (0..count).map(|i| endpoint(v6, service, number(i))).collect();
    let endpoints = Vec::from_iter(endpoints);
    let of = |ip: IpAddr| Frontend { address: ip, port: 80, protocol: Protocol::Tcp };
    let mut frontends = BTreeMap::from([(of(in_family(cluster_ip(service), v6)), FrontendKind::ClusterIp)]);
    if u32::from(service) == epoch(time) % u32::from(STAYING) {
        frontends.insert(of(in_family(SHARED, v6)), FrontendKind::ExternalIp);
    }
    let family = if v6 { Family::V6 } else { Family::V4 };
    let name = PortName { service: key.clone(), port: "http".into(), protocol: Protocol::Tcp, family };
    let port = WantedPort {
        name,
        frontends,
        cluster: Set::Endpoints(endpoints.clone()),
        local: Set::Unused,
        serving: endpoints,
        algorithm: Algorithm::Random,
        attributes: Attributes::default(),
        source_ranges: BTreeSet::new(),
    };
    (key, vec![port])
}

const fn epoch(time: u32) -> u32 {
    time / FLIPS
}

/// Each that comes and goes is there for two epochs and away for the rest of a turn.
fn is_there(service: u8, time: u32) -> bool {
    let turn = u32::from(SERVICES - STAYING);
    service < STAYING || (epoch(time) + u32::from(service)) % turn < 2
}

/// Programs over pinned maps, as the agent loads them; attached to nothing.
struct Node {
    // Order of the fields: what holds the file system open goes before it.
    loaded: Loaded,
    _lock: PinsLock,
    pins: Pins,
    _bpffs: Bpffs,
}

impl Node {
    fn new() -> Self {
        let bpffs = Bpffs::mount("race").unwrap();
        let pins = Pins::at(&bpffs.path);
        let lock = pins.open().unwrap();
        let loaded = datapath::load(&pins, &LIMITS, &Constants::default()).unwrap();
        Self { loaded, _lock: lock, pins, _bpffs: bpffs }
    }

    fn program(&self) -> &SchedClassifier {
        self.loaded.ebpf.program("mr_from_pod").unwrap().try_into().unwrap()
    }

    /// Every verdict that was counted.
    fn counts(&self) -> BTreeMap<Verdict, u64> {
        verdicts(&self.pins).unwrap().into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

/// What the writer has done.
#[derive(Default, Debug)]
struct Done {
    /// Frontends that were deleted, and inserts that waited for a grace period.
    deleted: AtomicU32,
    waited: AtomicU32,
    /// Grace periods off the critical path.
    graced: AtomicU32,
}

/// Changes services as the agent's loop does, until it is told to stop.
fn change(v6: bool, pins: &Pins, stop: &AtomicBool, done: &Done) {
    let _stop = Stop(stop);
    let mut planner = Planner::new(LIMITS.sizes());
    let mut tables = KernelTables::open(pins, grace::start().unwrap()).unwrap();
    let (over, graces) = mpsc::channel();
    let mut under_way = false;
    for time in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let batch: Vec<_> = (0..SERVICES).map(|service| wanted(v6, service, time)).collect();
        let plan = planner.plan(batch.iter().map(|(key, ports)| (key, ports.as_slice())));
        for op in plan.ops() {
            match op {
                Op::DeleteFrontend { .. } => done.deleted.fetch_add(1, Ordering::Relaxed),
                Op::Grace => done.waited.fetch_add(1, Ordering::Relaxed),
                _ => 0,
            };
        }
        let outcome = carry_out(&plan, &mut planner, &mut tables);
        assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
        if let Ok(ticket) = graces.try_recv() {
            under_way = false;
            done.graced.fetch_add(1, Ordering::Relaxed);
            planner.graced(ticket);
            let chores = planner.chores();
            assert!(carry_out(&chores, &mut planner, &mut tables).errors.is_empty());
        }
        if !under_way && let Some(ticket) = planner.pending_grace() {
            under_way = true;
            let over = over.clone();
            tables.grace().request(move |passed| {
                passed.unwrap();
                // Nobody listens any more when the test is over.
                let _ = over.send(ticket);
            });
        }
    }
}

/// Whose backends a connection to the frontend at `place` may reach: a service's own, for the shared one two services'.
fn owners(place: usize) -> std::ops::Range<u8> {
    if place == usize::from(SERVICES) { 0..STAYING } else { place as u8..place as u8 + 1 }
}

/// A connection is served by its own service, is refused, or is nobody's business: nothing else, ever.
fn judge(v6: bool, place: usize, connection: &Connection, out: &Outcome) {
    match out.action {
        Action::Next if out.frame == connection.frame => {}
        Action::Next => {
            let reached = connection.destination(out);
            let own = owners(place).any(|service| (0..ENDPOINTS).any(|i| endpoint(v6, service, i) == reached));
            assert!(own, "a connection to {} went to {reached}", connection.to);
        }
        // The address is owned, and its port has just gone.
        Action::Redirect => assert_eq!(out.seen().unwrap().source, connection.to, "{out:?}"),
        // The same, where there are too many to answer each.
        Action::Drop => {}
        _ => panic!("a connection to {}: {out:?}", connection.to),
    }
}

/// Millions of connections, by several threads, while hundreds of frontends come and go behind them.
#[test]
fn what_one_service_leaves_to_another_is_never_seen_as_its_own() {
    for v6 in [false, true] {
        let node = Node::new();
        let mut frontends: Vec<_> = (0..SERVICES).map(|service| frontend(v6, cluster_ip(service))).collect();
        frontends.push(frontend(v6, SHARED));
        let client = SocketAddr::new(in_family(CLIENT, v6), 1);
        let (stop, done) = (AtomicBool::new(false), Done::default());
        // As many as come and go in that time, without grace periods that are shorter than they should be.
        let floor = readers::floor() / 2_500;
        let enough = || [&done.deleted, &done.waited, &done.graced].iter().all(|n| n.load(Ordering::Relaxed) >= floor);
        let reads = thread::scope(|scope| {
            let writer = scope.spawn(|| change(v6, &node.pins, &stop, &done));
            let reads = readers::read(node.program(), client, &frontends, &stop, enough, |place, connection, out| {
                judge(v6, place, connection, out);
            });
            writer.join().unwrap();
            reads
        });
        let counts = node.counts();
        let served = counts.get(&Verdict::PacketNewFlow).copied().unwrap_or_default();
        println!("{reads} connections, {served} of them served, {done:?}");
        assert!(reads >= readers::floor() && enough(), "{reads} connections, {done:?}");
        assert!(served > u64::from(reads) / 4, "{served} of {reads} connections were served");
        // Above all neither of the bugs.
        let expected = [Verdict::PacketNewFlow, Verdict::RejectedReset, Verdict::RejectedSilently];
        assert!(counts.keys().all(|verdict| expected.contains(verdict)), "{counts:?}");
    }
}
