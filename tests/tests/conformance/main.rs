//! Every row of the tables about packet flow, run with real sockets against the whole product: manifests in, an agent
//! on a node, processes in pods. `MILLRACE_CONFORMANCE=DIR` names another directory of tables of the same form.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod run;
mod scene;
mod table;

use std::{env, path::PathBuf};

use crate::scene::Scene;

fn tables() -> PathBuf {
    let own = || concat!(env!("CARGO_MANIFEST_DIR"), "/conformance").into();
    env::var_os("MILLRACE_CONFORMANCE").map_or_else(own, PathBuf::from)
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
    let directory = tables();
    let cases = table::read(&directory).unwrap();
    let mut scene = Scene::create(socket_lb).unwrap();
    let mut failed = Vec::new();
    for case in cases.iter() {
        let problems = run::run(&mut scene, case).unwrap_or_else(|error| vec![format!("{error:#}")]);
        println!("{:6} {socket_lb:9} {}", if problems.is_empty() { "ok" } else { "FAILED" }, case.name);
        failed.extend(problems.into_iter().map(|problem| format!("{}: {problem}", case.name)));
    }
    assert!(failed.is_empty(), "with --socket-lb {socket_lb}:\n{}\n{}", failed.join("\n"), scene.stats());
}
