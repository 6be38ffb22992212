//! Which endpoints a node chooses: the tables of endpoint selection, against the decision itself.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use millrace_agent::{
    lb::{Candidate, Categories, NodeInfo, Policies, categorize},
    model::{Endpoint, Topology},
};
use serde::Deserialize;

use crate::directory::{Directory, Kind};

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

/// Runs every table of the directory; the names of the cases.
///
/// # Errors
/// All cases whose endpoints are not those that were chosen.
pub(crate) fn all(directory: &Directory) -> Result<Vec<String>> {
    let mut cases = Vec::new();
    for table in directory.tables(Kind::Selection)? {
        cases.extend(run(table)?);
    }
    for (name, problem) in &cases {
        println!("{:6} {name}", if problem.is_none() { "ok" } else { "FAILED" });
    }
    let failed: Vec<_> = cases.iter().filter(|(_, problem)| problem.is_some()).collect();
    ensure!(failed.is_empty(), "the node chooses other endpoints than these cases say: {failed:#?}");
    Ok(cases.into_iter().map(|(name, _)| name).collect())
}

/// Each case of a table by name, and what was chosen where that is not what it says.
fn run(table: &Path) -> Result<Vec<(String, Option<String>)>> {
    let text = fs::read_to_string(table)?;
    let Table { cases } = serde_saphyr::from_str(&text).with_context(|| table.display().to_string())?;
    let judged = cases.into_iter().map(|case| {
        let chosen = choose(&case);
        let problem = (chosen != case.expect).then(|| format!("expected {:?}, chosen {chosen:?}", case.expect));
        (case.name, problem)
    });
    Ok(judged.collect())
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
