//! Every row of the conformance tables. Those about packet flow are run with real sockets against the whole product:
//! manifests in, an agent on a node, processes in pods. `MILLRACE_CONFORMANCE=DIR` names another directory of tables of
//! the same forms.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod directory;
mod matrix;
mod run;
mod scene;
mod selection;
mod table;

use millrace_common::verdict::Verdict;

use crate::{
    directory::{Directory, Kind},
    matrix::Column,
    scene::Scene,
    table::{Case, From},
};

#[test]
fn a_node_chooses_the_endpoints_that_every_row_says() {
    let directory = Directory::named().unwrap();
    let cases = selection::all(&directory).unwrap();
    let cells = cases.into_iter().map(|name| (name, "chosen".to_owned())).collect();
    recorded(&directory, &Column { heading: "decision", cells });
}

#[test]
fn over_the_socket_path_every_row_is_served_as_kube_proxy_would() {
    rows(&["--socket-lb", "on"], "socket hooks", |_| true);
}

#[test]
fn over_the_per_packet_path_every_row_is_served_as_kube_proxy_would() {
    rows(&["--socket-lb", "host-only"], "per packet", |_| true);
}

#[test]
fn over_generic_xdp_every_row_from_outside_is_served_as_kube_proxy_would() {
    rows(&["--xdp", "generic"], "XDP generic", |case| case.from == From::Outside);
}

#[test]
fn over_native_xdp_every_row_from_outside_is_served_as_kube_proxy_would() {
    rows(&["--xdp", "native"], "XDP native", |case| case.from == From::Outside);
}

fn rows(arguments: &[&str], heading: &str, of_the_path: impl Fn(&Case) -> bool) {
    let directory = Directory::named().unwrap();
    let tables = directory.tables(Kind::Flow).unwrap();
    let cases: Vec<Case> = tables.into_iter().flat_map(|table| table::read(table).unwrap()).collect();
    let cases: Vec<Case> = cases.into_iter().filter(of_the_path).collect();
    if cases.is_empty() {
        return;
    }
    let mut scene = Scene::create(arguments).unwrap();
    let mut failed = Vec::new();
    for case in &cases {
        let served = scene.count(Verdict::XdpServed).unwrap();
        let mut problems = run::run(&mut scene, case).unwrap_or_else(|error| vec![format!("{error:#}")]);
        let served = scene.count(Verdict::XdpServed).unwrap() - served;
        // A row that others served is no row of this path.
        if arguments.contains(&"--xdp") && served < run::packets_of_xdp(case) {
            problems.push(format!("XDP served {served} packets, {} at least are its", run::packets_of_xdp(case)));
        }
        println!(
            "{:6} {heading:12} {} ({served} by XDP)",
            if problems.is_empty() { "ok" } else { "FAILED" },
            case.name
        );
        failed.extend(problems.into_iter().map(|problem| format!("{}: {problem}", case.name)));
    }
    assert!(failed.is_empty(), "with {arguments:?}:\n{}\n{}", failed.join("\n"), scene.stats());
    let cells = cases.iter().map(|case| (case.name.clone(), run::said(&run::variants(case)))).collect();
    recorded(&directory, &Column { heading, cells });
}

/// Of the project's own tables, docs/conformance.md says what every row was run with.
fn recorded(directory: &Directory, column: &Column<'_>) {
    if directory.is_own() {
        column.check().unwrap();
    }
}
