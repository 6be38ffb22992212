//! Every row of the tables about packet flow, run with real sockets against the whole product: manifests in, an agent
//! on a node, processes in pods. `MILLRACE_CONFORMANCE=DIR` names another directory of tables of the same form.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod run;
mod scene;
mod table;

use std::{env, path::PathBuf};

use crate::{
    scene::Scene,
    table::{Case, Expect, Verdict},
};

/// Of the project's own tables. A row that comes to be served must leave this list.
const NOT_SERVED: [&str; 1] = ["source range that excludes the client"];

fn tables() -> (PathBuf, bool) {
    let own = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/conformance"));
    env::var_os("MILLRACE_CONFORMANCE").map_or((own, true), |directory| (directory.into(), false))
}

/// This version lets source ranges exclude nobody.
fn served(case: &Case) -> bool {
    case.service.source_ranges.is_empty() || case.expect != Expect::Verdict(Verdict::Drop)
}

#[test]
fn rows_that_are_not_served_yet_are_known_by_name() {
    let (directory, own) = tables();
    let cases = table::read(&directory).unwrap();
    let missing: Vec<_> = cases.iter().filter(|case| !served(case)).map(|case| case.name.as_str()).collect();
    println!("not served yet: {} rows of {}", missing.len(), cases.len());
    missing.iter().for_each(|name| println!("  SKIPPED {name}"));
    if own {
        assert_eq!(missing, NOT_SERVED);
    }
}

#[test]
fn over_the_socket_path_every_row_is_served_as_kube_proxy_would() {
    all_rows("on");
}

#[test]
fn over_the_per_packet_path_every_row_is_served_as_kube_proxy_would() {
    all_rows("host-only");
}

fn all_rows(socket_lb: &str) {
    let (directory, _) = tables();
    let cases = table::read(&directory).unwrap();
    let mut scene = Scene::create(socket_lb).unwrap();
    let mut failed = Vec::new();
    for case in cases.iter().filter(|case| served(case)) {
        let problems = run::run(&mut scene, case).unwrap_or_else(|error| vec![format!("{error:#}")]);
        println!("{:6} {socket_lb:9} {}", if problems.is_empty() { "ok" } else { "FAILED" }, case.name);
        failed.extend(problems.into_iter().map(|problem| format!("{}: {problem}", case.name)));
    }
    assert!(failed.is_empty(), "with --socket-lb {socket_lb}:\n{}\n{}", failed.join("\n"), scene.stats());
}
