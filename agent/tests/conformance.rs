//! Runs the tables of endpoint selection that every conforming service proxy must agree with.
//!
//! `MILLRACE_CONFORMANCE=DIR cargo test -p millrace-agent --test conformance` runs those of another directory. Every
//! `*.yaml` there whose cases have `endpoints` and `expect.cluster` is run; a directory without such a file fails.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends at what it did not expect")]

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use millrace_agent::{
    lb::{Candidate, Categories, NodeInfo, Policies, categorize},
    model::{Endpoint, Topology},
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    node: CaseNode,
    service: CaseService,
    endpoints: Vec<CaseEndpoint>,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseNode {
    name: String,
    zone: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseService {
    #[serde(default)]
    internal: CasePolicy,
    #[serde(default)]
    external: CasePolicy,
    #[serde(default)]
    reachable: bool,
}

#[derive(Default, Deserialize, PartialEq)]
enum CasePolicy {
    #[default]
    Cluster,
    Local,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseEndpoint {
    a: IpAddr,
    node: Option<String>,
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
    #[serde(default)]
    zones: Vec<String>,
    #[serde(default)]
    nodes: Vec<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Expect {
    cluster: Option<BTreeSet<IpAddr>>,
    local: Option<BTreeSet<IpAddr>>,
    any: bool,
}

#[test]
fn every_node_chooses_the_endpoints_that_the_tables_say() {
    let directory = std::env::var_os("MILLRACE_CONFORMANCE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance"), PathBuf::from);
    let (mut cases, mut failures) = (0, String::new());
    for path in tables(&directory) {
        let table: Table = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: not a table of endpoint selection: {error}", path.display()));
        for case in table.cases {
            cases += 1;
            let chosen = choose(&case);
            if chosen != case.expect {
                writeln!(failures, "{}: \"{}\"", path.display(), case.name).unwrap();
                writeln!(failures, "  expected {:?}\n  chosen   {chosen:?}", case.expect).unwrap();
            }
        }
    }
    assert!(cases > 0, "{} has no table of endpoint selection: nothing was tested", directory.display());
    assert!(failures.is_empty(), "the node chooses other endpoints than these cases say:\n{failures}");
    println!("{cases} cases of {}", directory.display());
}

/// The files of the directory that have the form of a table of endpoint selection; it may hold others too.
fn tables(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    paths.retain(|path| {
        let text = fs::read_to_string(path).unwrap();
        let document: serde_json::Value = serde_saphyr::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: not a YAML document: {error}", path.display()));
        document["cases"].as_array().is_some_and(|cases| {
            cases.iter().any(|case| case["endpoints"].is_array() && case["expect"].get("cluster").is_some())
        })
    });
    paths
}

fn choose(case: &Case) -> Expect {
    let boxed = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
    let endpoints: Vec<Endpoint> = (case.endpoints.iter())
        .map(|endpoint| Endpoint {
            address: endpoint.a,
            ready: endpoint.ready.unwrap_or(true),
            serving: endpoint.serving.unwrap_or(true),
            terminating: endpoint.terminating.unwrap_or(false),
            topology: Some(Arc::new(Topology {
                node: endpoint.node.as_deref().map(Into::into),
                zones: boxed(&endpoint.zones),
                nodes: boxed(&endpoint.nodes),
            })),
        })
        .collect();
    let candidates: Vec<Candidate<'_>> = (endpoints.iter())
        .map(|endpoint| Candidate { address: SocketAddr::new(endpoint.address, 80), endpoint })
        .collect();
    let node = NodeInfo {
        name: case.node.name.as_str().into(),
        zone: Some(case.node.zone.as_str()).filter(|zone| !zone.is_empty()).map(Into::into),
        ..NodeInfo::default()
    };
    let policies = Policies {
        internal_local: case.service.internal == CasePolicy::Local,
        external_local: case.service.external == CasePolicy::Local,
        reachable: case.service.reachable,
    };
    let Categories { cluster, local, any } = categorize(&node, policies, &candidates);
    let addresses = |set: Option<Vec<SocketAddr>>| set.map(|set| set.iter().map(SocketAddr::ip).collect());
    Expect { cluster: addresses(cluster), local: addresses(local), any }
}
