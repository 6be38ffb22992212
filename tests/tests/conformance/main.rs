//! Every row of the conformance tables. Those about packet flow are run with real sockets against the whole product:
//! manifests in, an agent on a node, processes in pods. `MILLRACE_CONFORMANCE=DIR` names another directory of tables of
//! the same forms.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod choosing;
mod directory;
mod matrix;
mod run;
mod scene;
mod selection;
mod table;

use std::env;

use millrace_common::verdict::Verdict;

use crate::{
    choosing::Choosing,
    directory::{Directory, Kind},
    matrix::Column,
    scene::Scene,
    table::{Case, Expect, From, Protocol},
};

#[test]
fn a_node_chooses_the_endpoints_that_every_row_says() {
    let directory = Directory::named().unwrap();
    let cases = selection::decide(&selection::read(&directory).unwrap()).unwrap();
    let cells = cases.into_iter().map(|name| (name, "chosen".to_owned())).collect();
    recorded(&directory, &Column { heading: "decision", cells });
}

#[test]
fn over_the_socket_path_every_row_is_served_as_kube_proxy_would() {
    rows(&["--socket-lb", "on"], Path::Sockets, "socket hooks", |_| true);
}

#[test]
fn over_the_per_packet_path_every_row_is_served_as_kube_proxy_would() {
    rows(&["--socket-lb", "host-only"], Path::Packets, "per packet", |_| true);
}

#[test]
fn to_chosen_pods_of_a_node_with_socket_hooks_every_row_is_served_as_kube_proxy_would() {
    rows(&["--socket-lb", "on"], Path::ChosenPods, "chosen pods", |_| true);
}

#[test]
fn over_generic_xdp_every_row_from_outside_is_served_as_kube_proxy_would() {
    rows(&["--xdp", "generic"], Path::Xdp, "XDP generic", |case| case.from == From::Outside);
}

#[test]
fn over_native_xdp_every_row_from_outside_is_served_as_kube_proxy_would() {
    rows(&["--xdp", "native"], Path::Xdp, "XDP native", |case| case.from == From::Outside);
}

/// Who serves a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Sockets,
    Packets,
    /// Pods that are left to the packet path by a node whose socket hooks serve the others.
    ChosenPods,
    Xdp,
}

/// What n1 has counted that tells the paths apart.
#[derive(Clone, Copy, Debug)]
struct Counted {
    by_xdp: u64,
    translated_sockets: u64,
    refused_sockets: u64,
    /// Calls that a socket hook has seen, and that are for the packet path to decide.
    left_to_packets: u64,
    excluded_calls: u64,
}

impl Counted {
    fn of(scene: &Scene) -> Self {
        let count = |verdict| scene.count(verdict).unwrap();
        Self {
            by_xdp: count(Verdict::XdpServed),
            translated_sockets: count(Verdict::SocketTranslated),
            refused_sockets: count(Verdict::SocketRejected),
            left_to_packets: count(Verdict::SocketLeftToPackets),
            excluded_calls: count(Verdict::SocketPodExcluded),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            by_xdp: self.by_xdp - before.by_xdp,
            translated_sockets: self.translated_sockets - before.translated_sockets,
            refused_sockets: self.refused_sockets - before.refused_sockets,
            left_to_packets: self.left_to_packets - before.left_to_packets,
            excluded_calls: self.excluded_calls - before.excluded_calls,
        }
    }

    /// A row that others served is no row of this path.
    fn problem(self, path: Path, case: &Case) -> Option<String> {
        let from_pod = matches!(case.from, From::Pod | From::PodSelf);
        // Rows that nobody answers may be about addresses that are no service's on this node.
        let answered = matches!(case.expect, Expect::Reached(_));
        let connects = run::variants(case).iter().any(|variant| variant.protocol == Protocol::Tcp);
        let wrong = match path {
            Path::Xdp => self.by_xdp < run::packets_of_xdp(case),
            Path::ChosenPods if from_pod => {
                self.translated_sockets > 0 || (answered && connects && self.excluded_calls == 0)
            }
            Path::Sockets if from_pod || case.from == From::Host => {
                let seen = self.translated_sockets + self.refused_sockets + self.left_to_packets;
                self.excluded_calls > 0 || (answered && connects && seen == 0)
            }
            Path::Packets if from_pod => self.excluded_calls + self.translated_sockets + self.refused_sockets > 0,
            Path::ChosenPods | Path::Sockets | Path::Packets => self.excluded_calls > 0,
        };
        wrong.then(|| {
            format!("not served by {path:?}: {self:?}, {} packets at least are of XDP", run::packets_of_xdp(case))
        })
    }
}

fn rows(arguments: &[&str], path: Path, heading: &str, of_the_path: impl Fn(&Case) -> bool) {
    let directory = Directory::named().unwrap();
    if env::var("MILLRACE_MACHINE").is_ok_and(|which| which == "essential") {
        packets(&directory, arguments, path, heading, |case| of_the_path(case) && of_cluster_ips(case));
        return;
    }
    let mut cells = packets(&directory, arguments, path, heading, of_the_path);
    cells.extend(choices(&directory, arguments, path, heading));
    recorded(&directory, &Column { heading, cells });
}

/// What every kernel is asked for in a run of everything: all rows would take each half an hour, emulated.
fn of_cluster_ips(case: &Case) -> bool {
    case.from != From::Outside && case.dst.all().iter().all(|to| to.starts_with("10.96."))
}

/// The rows of packet flow: the cells of those that this path serves.
fn packets(
    directory: &Directory,
    arguments: &[&str],
    path: Path,
    heading: &str,
    of_the_path: impl Fn(&Case) -> bool,
) -> Vec<(String, String)> {
    let tables = directory.tables(Kind::Flow).unwrap();
    let cases: Vec<Case> = tables.into_iter().flat_map(|table| table::read(table).unwrap()).collect();
    let cases: Vec<Case> = cases.into_iter().filter(of_the_path).collect();
    if cases.is_empty() {
        return Vec::new();
    }
    let mut scene = Scene::create(arguments, path == Path::ChosenPods).unwrap();
    let mut failed = Vec::new();
    for case in &cases {
        let before = Counted::of(&scene);
        let mut problems = run::run(&mut scene, case).unwrap_or_else(|error| vec![format!("{error:#}")]);
        let counted = Counted::of(&scene).since(before);
        problems.extend(counted.problem(path, case));
        let verdict = if problems.is_empty() { "ok" } else { "FAILED" };
        println!("{verdict:6} {heading:12} {} ({} by XDP)", case.name, counted.by_xdp);
        failed.extend(problems.into_iter().map(|problem| format!("{}: {problem}", case.name)));
    }
    assert!(failed.is_empty(), "with {arguments:?}:\n{}\n{}", failed.join("\n"), scene.stats());
    cases.iter().map(|case| (case.name.clone(), run::said(&run::variants(case)))).collect()
}

/// The rows of endpoint selection, likewise: over XDP those whose Service somebody outside reaches.
fn choices(directory: &Directory, arguments: &[&str], path: Path, heading: &str) -> Vec<(String, String)> {
    let mut cases = selection::read(directory).unwrap();
    cases.retain(|case| path != Path::Xdp || case.service.reachable);
    let Some(most) = cases.iter().map(|case| case.endpoints.len()).max() else { return Vec::new() };
    let mut scene = Choosing::create(arguments, path, most).unwrap();
    let mut failed = Vec::new();
    for case in &cases {
        let problems = scene.run(case).unwrap_or_else(|error| vec![format!("{}: {error:#}", case.name)]);
        println!("{:6} {heading:12} {}", if problems.is_empty() { "ok" } else { "FAILED" }, case.name);
        failed.extend(problems);
    }
    assert!(failed.is_empty(), "with {arguments:?}:\n{}", failed.join("\n"));
    cases.into_iter().map(|case| (case.name, choosing::SAID.to_owned())).collect()
}

/// Of the project's own tables, docs/conformance.md says what every row was run with.
fn recorded(directory: &Directory, column: &Column<'_>) {
    if directory.is_own() {
        column.check().unwrap();
    }
}
