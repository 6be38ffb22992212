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

use crate::{
    directory::{Directory, Kind},
    matrix::Column,
    scene::Scene,
    table::Case,
};

#[test]
fn a_node_chooses_the_endpoints_that_every_row_says() {
    let directory = Directory::named().unwrap();
    let tables = directory.tables(Kind::Selection).unwrap();
    let cases: Vec<_> = tables.into_iter().flat_map(|table| selection::run(table).unwrap()).collect();
    for (name, problem) in &cases {
        println!("{:6} {name}", if problem.is_none() { "ok" } else { "FAILED" });
    }
    let failed: Vec<_> = cases.iter().filter(|(_, problem)| problem.is_some()).collect();
    assert!(failed.is_empty(), "the node chooses other endpoints than these cases say: {failed:#?}");
    let cells = cases.into_iter().map(|(name, _)| (name, "chosen".to_owned())).collect();
    recorded(&directory, &Column { heading: "decision", cells });
}

#[test]
fn over_the_socket_path_every_row_is_served_as_kube_proxy_would() {
    all_rows("on", "socket hooks");
}

#[test]
fn over_the_per_packet_path_every_row_is_served_as_kube_proxy_would() {
    all_rows("host-only", "per packet");
}

fn all_rows(socket_lb: &str, heading: &str) {
    let directory = Directory::named().unwrap();
    let tables = directory.tables(Kind::Flow).unwrap();
    let cases: Vec<Case> = tables.into_iter().flat_map(|table| table::read(table).unwrap()).collect();
    if cases.is_empty() {
        return;
    }
    let mut scene = Scene::create(socket_lb).unwrap();
    let mut failed = Vec::new();
    for case in &cases {
        let problems = run::run(&mut scene, case).unwrap_or_else(|error| vec![format!("{error:#}")]);
        println!("{:6} {socket_lb:9} {}", if problems.is_empty() { "ok" } else { "FAILED" }, case.name);
        failed.extend(problems.into_iter().map(|problem| format!("{}: {problem}", case.name)));
    }
    assert!(failed.is_empty(), "with --socket-lb {socket_lb}:\n{}\n{}", failed.join("\n"), scene.stats());
    let cells = cases.iter().map(|case| (case.name.clone(), run::said(&run::variants(case)))).collect();
    recorded(&directory, &Column { heading, cells });
}

/// Of the project's own tables, docs/conformance.md says what every row was run with.
fn recorded(directory: &Directory, column: &Column<'_>) {
    if directory.is_own() {
        column.check().unwrap();
    }
}
