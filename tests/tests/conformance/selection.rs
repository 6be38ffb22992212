//! Which endpoints a node chooses: the tables of endpoint selection, against the decision itself.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
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
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) node: CaseNode,
    pub(crate) service: CaseService,
    pub(crate) endpoints: Vec<CaseEndpoint>,
    pub(crate) expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseNode {
    pub(crate) name: String,
    pub(crate) zone: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseService {
    #[serde(default)]
    pub(crate) internal: CasePolicy,
    #[serde(default)]
    pub(crate) external: CasePolicy,
    #[serde(default)]
    pub(crate) reachable: bool,
}

#[derive(Default, Deserialize, PartialEq)]
pub(crate) enum CasePolicy {
    #[default]
    Cluster,
    Local,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseEndpoint {
    pub(crate) a: IpAddr,
    pub(crate) node: Option<String>,
    pub(crate) ready: Option<bool>,
    pub(crate) serving: Option<bool>,
    pub(crate) terminating: Option<bool>,
    #[serde(default)]
    pub(crate) zones: Vec<String>,
    #[serde(default)]
    pub(crate) nodes: Vec<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    pub(crate) cluster: Option<BTreeSet<IpAddr>>,
    pub(crate) local: Option<BTreeSet<IpAddr>>,
    pub(crate) any: bool,
}

/// The cases of every table of the directory.
///
/// # Errors
/// A table of another form.
pub(crate) fn read(directory: &Directory) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for table in directory.tables(Kind::Selection)? {
        let parsed: Table =
            serde_saphyr::from_str(&fs::read_to_string(table)?).with_context(|| table.display().to_string())?;
        cases.extend(parsed.cases);
    }
    Ok(cases)
}

/// Asks the decision of each case; their names.
///
/// # Errors
/// All cases whose endpoints are not those that were chosen.
pub(crate) fn decide(cases: &[Case]) -> Result<Vec<String>> {
    let judged = cases.iter().map(|case| {
        let chosen = choose(case);
        let problem = (chosen != case.expect).then(|| format!("expected {:?}, chosen {chosen:?}", case.expect));
        (case.name.clone(), problem)
    });
    let cases: Vec<_> = judged.collect();
    for (name, problem) in &cases {
        println!("{:6} {name}", if problem.is_none() { "ok" } else { "FAILED" });
    }
    let failed: Vec<_> = cases.iter().filter(|(_, problem)| problem.is_some()).collect();
    ensure!(failed.is_empty(), "the node chooses other endpoints than these cases say: {failed:#?}");
    Ok(cases.into_iter().map(|(name, _)| name).collect())
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
