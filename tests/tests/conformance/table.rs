//! Tables of packet flow, as `conformance/packet-flow.yaml` is one, parsed strictly: a word that this runner does not know is an error,
//! never a row that is run by half.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    cases: Vec<Case>,
}

/// One row: who sends what where, and what must come of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) service: ServiceRow,
    pub(crate) from: From,
    pub(crate) dst: OneOrMany,
    pub(crate) expect: Expect,
    /// Both TCP and UDP unless it says otherwise.
    pub(crate) protocol: Option<Protocol>,
    pub(crate) socket: Option<Socket>,
    pub(crate) tcp: Option<Segment>,
    /// The connection is there before the service changes.
    #[serde(default)]
    pub(crate) established: bool,
    pub(crate) connections: Option<usize>,
    /// Between connections, as in `3s`.
    pub(crate) every: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ServiceRow {
    pub(crate) endpoints: Vec<String>,
    pub(crate) node_port: Option<u16>,
    pub(crate) internal: Option<Policy>,
    pub(crate) external: Option<Policy>,
    pub(crate) vip: Option<String>,
    pub(crate) ip_mode: Option<String>,
    #[serde(default)]
    pub(crate) source_ranges: Vec<String>,
    #[serde(rename = "externalIP")]
    pub(crate) external_ip: Option<String>,
    pub(crate) affinity: Option<u32>,
    pub(crate) protocols: Option<Vec<Protocol>>,
    pub(crate) becomes: Option<Becomes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Policy {
    Cluster,
    Local,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// What happens to the endpoints during the case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Becomes {
    State(State),
    Endpoints(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Terminating,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum From {
    Pod,
    PodSelf,
    Host,
    Outside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Socket {
    Mapped,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Segment {
    pub(crate) flags: TcpFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum TcpFlags {
    Ack,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(crate) fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Expect {
    Verdict(Verdict),
    Reached(Reached),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Reject,
    Drop,
    Untouched,
    RefusedByNobodyListening,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Reached {
    /// Each of them, over enough connections.
    pub(crate) to: Option<Vec<String>>,
    /// Any of them, but always the same.
    pub(crate) to_one_of: Option<Vec<String>>,
    pub(crate) src: Option<Source>,
    /// The connection lives on.
    #[serde(default)]
    pub(crate) unbroken: bool,
    /// As in `1s`.
    pub(crate) within: Option<String>,
}

/// The source address that the pod sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    Kept,
    Node,
    Any,
}

/// All cases of a table.
pub(crate) fn read(file: &Path) -> Result<Vec<Case>> {
    let table: Table =
        serde_saphyr::from_str(&fs::read_to_string(file)?).with_context(|| file.display().to_string())?;
    Ok(table.cases)
}
