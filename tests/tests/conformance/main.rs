//! Every row of the tables about packet flow, run with real sockets against the whole product: manifests in, an agent
//! on a node, processes in pods. `MILLRACE_CONFORMANCE=DIR` names another directory of tables of the same form.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod run;
mod scene;
mod table;

use std::{env, path::PathBuf};

use crate::{
    scene::Scene,
    table::{Case, From},
};

/// Of the project's own tables. A row that comes to be served must leave this list.
const NOT_SERVED: [&str; 15] = [
    "no endpoints through the node port",
    "node port from outside",
    "node port external Local from outside",
    "node port external Local with none local",
    "pod to its own node's port under external Local",
    "host to its own node's port under external Local",
    "pod to another node's port under external Local with none there",
    "load balancer vip",
    "load balancer vip external Local",
    "source range that excludes the client",
    "source range does not guard the node port",
    "external ip",
    "load balancer without node ports",
    "outside to a cluster ip that is routed here",
    "pod to its own node's port under external Cluster",
];

fn tables() -> (PathBuf, bool) {
    let own = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/conformance"));
    env::var_os("MILLRACE_CONFORMANCE").map_or((own, true), |directory| (directory.into(), false))
}

/// This version serves ClusterIPs, VIPs and external IPs to pods and to the node itself. Node ports, and traffic from
/// outside, it does not serve.
fn served(case: &Case) -> bool {
    let node_port = case.service.node_port.is_some_and(|port| {
        case.dst.all().iter().any(|dst| dst.ends_with(&format!(":{port}")) && !dst.starts_with("127."))
    });
    case.from != From::Outside && !node_port
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
