//! `bench services` for real, with as few operations as there can be: every contestant that this kernel can do, in
//! namespaces of its own, and nothing left behind. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use millrace_bench::{
    cluster::Clients,
    contestants::Kind,
    probe::client::Operation,
    report::{self, Destination, Figures, Report},
};
use millrace_tests::{agent, place};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const FEW: [&str; 13] = [
    "services",
    "--runs=1",
    "--rounds=4",
    "--changes=2",
    "--churn=2",
    "--churn-seconds=1",
    "--limit=300",
    "--sizes",
    "2",
    "--families",
    "4",
    "--rivals-up-to",
    "2",
];

fn bench(arguments: &[&str], out: &std::path::Path) -> Command {
    // It runs the agent that lies beside it.
    agent::binary().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace-bench"));
    command.args(arguments).arg("--out").arg(out);
    command
}

/// Names of namespaces and cgroups that the process made.
fn left_behind(child: &Child) -> Vec<String> {
    let prefix = format!("mr-{}-", child.id());
    let entries = |directory: &std::path::Path| -> Vec<String> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let places = ["/run/netns".into(), "/run/millrace-harness".into(), place::root().unwrap()];
    places.iter().flat_map(|place| entries(place)).filter(|name| name.starts_with(&prefix)).collect()
}

/// Client and server go before all other processes of their processor: two runs would starve each other.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn every_contestant_is_measured_beside_the_others() {
    let _alone = alone();
    let out = tempfile::tempdir().unwrap();
    let mut child = bench(&FEW, out.path()).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(left_behind(&child), Vec::<String>::new());

    let report = report::read(&out.path().join("benchmarks/services.json")).unwrap();
    for kind in Kind::ALL.into_iter().filter(|kind| kind.serves(Clients::Pods)) {
        is_measured(&report, kind);
    }
    let plots = ["connect", "programming", "change", "packets"].map(|plot| format!("benchmarks/{plot}.svg"));
    for file in [&["benchmarks.md".to_owned()][..], &plots].concat() {
        assert!(fs::metadata(out.path().join(&file)).unwrap().len() > 0, "{file}");
    }
}

/// Nothing is set up for a run that could measure nobody.
#[test]
fn who_asks_for_nobody_that_serves_these_clients_is_told_what_to_ask_for() {
    let out = tempfile::tempdir().unwrap();
    let output = bench(&["services", "--rivals=millrace-xdp-native", "--sizes=1"], out.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("millrace-xdp-native") && said.contains("--clients through"),
        "{said}"
    );
    assert!(fs::read_dir(out.path()).unwrap().next().is_none(), "half a run is no report");
}

/// XDP serves clients whose endpoints are elsewhere; a run in which it did not fails.
#[test]
fn clients_outside_are_measured_at_node_ports() {
    let _alone = alone();
    const THROUGH: [&str; 8] = [
        "services",
        "--clients=through",
        "--rivals=millrace,millrace-xdp-generic,millrace-xdp-native,nftables",
        "--sizes=2",
        "--runs=1",
        "--rounds=4",
        "--times=1",
        "--changes=2",
    ];
    let out = tempfile::tempdir().unwrap();
    let mut child = bench(&THROUGH, out.path()).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(left_behind(&child), Vec::<String>::new());
    let report = report::read(&out.path().join("benchmarks-through/services.json")).unwrap();
    let few = [
        "services",
        "--clients=outside",
        "--rivals=millrace,millrace-tc",
        "--sizes=1",
        "--runs=1",
        "--rounds=4",
        "--changes=2",
    ];
    let output = bench(&few, out.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("millrace, tc is not measured: "), "{said}");
    assert!(said.contains("churn is not measured: "), "{said}");
    let page = fs::read_to_string(out.path().join("benchmarks-outside.md")).unwrap();
    assert!(
        page.contains("**millrace, tc: NOT MEASURED, ") && page.contains("- Churn, which is NOT MEASURED"),
        "{page}"
    );
    let outside = report::read(&out.path().join("benchmarks-outside/services.json")).unwrap();
    has_traffic(outside.sizes[0].of(Kind::Millrace).unwrap());

    let compared: Vec<Kind> = report.participants.iter().map(|participant| participant.kind).collect();
    let xdp = [Kind::MillraceXdpGeneric, Kind::MillraceXdpNative];
    assert_eq!(compared, [&[Kind::Direct, Kind::Millrace][..], &xdp, &[Kind::Nftables]].concat());
    for kind in compared {
        has_traffic(report.sizes[0].of(kind).unwrap());
    }
}

fn has_traffic(figures: &Figures) {
    for operation in [Operation::Connect, Operation::Request, Operation::Kept, Operation::Datagram, Operation::Stream] {
        for destination in Destination::ALL {
            let traffic = figures.traffic(operation, destination).unwrap();
            let all = [traffic.p50, traffic.p99, traffic.cpu, traffic.p50_ratio, traffic.p50_own_ratio];
            assert!(all.iter().all(|figure| figure.median > 0.0), "{:?}: {traffic:?}", figures.kind);
        }
    }
    for destination in Destination::ALL {
        let flood = figures.flood(destination).unwrap();
        let all = [flood.per_second, flood.cpu, flood.per_second_ratio, flood.cpu_ratio];
        assert!(all.iter().all(|figure| figure.median > 0.0), "{:?}: {flood:?}", figures.kind);
        assert!(flood.lost.max < 0.01, "the server has its turn before its buffer is full: {flood:?}");
    }
}

fn is_measured(report: &Report, kind: Kind) {
    let participant = report.participants.iter().find(|participant| participant.kind == kind).unwrap();
    let figures = report.sizes[0].of(kind).unwrap();
    if let Some(why) = &participant.absent {
        assert_eq!(kind, Kind::Ipvs, "only IPVS may be missing: {why}");
        assert_eq!(figures.skipped.as_ref(), Some(why));
        return;
    }
    assert_eq!(figures.skipped, None, "{kind:?}");
    has_traffic(figures);
    if kind == Kind::Direct {
        return;
    }
    assert!(figures.programming.unwrap().median > 0.0 && figures.change.unwrap().median > 0.0, "{figures:?}");
    assert_eq!(figures.start.is_some(), kind.is_millrace());
    assert_eq!(figures.programmed, 3, "{kind:?} at two services");
    let memory = figures.memory;
    let has_programs = memory.programs.is_some_and(|mib| mib > 0.0 && mib < memory.kernel.unwrap_or(0.0));
    assert_eq!(has_programs, kind.is_millrace(), "{kind:?}: {memory:?}");
    let churn = figures.churn.as_ref().unwrap();
    assert!(churn.connections > 0, "{kind:?}: {churn:?}");
    if kind.is_millrace() {
        assert_eq!(churn.failed, 0, "a set of endpoints is replaced whole: {churn:?}");
    }
}

#[test]
fn an_interrupted_run_takes_down_what_it_made() {
    let _alone = alone();
    let out = tempfile::tempdir().unwrap();
    let mut child = bench(&FEW, out.path()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // One is programmed, the others are still to come.
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("programmed in")));
    assert!(!left_behind(&child).is_empty());
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let said: Vec<_> = lines.map_while(Result::ok).collect();
    assert!(!child.wait().unwrap().success(), "it says that it was interrupted");
    assert!(said.iter().any(|line| line.contains("interrupted")), "{said:?}");
    assert_eq!(left_behind(&child), Vec::<String>::new());
    assert!(!out.path().join("benchmarks.md").exists(), "half a run is no report");
}
