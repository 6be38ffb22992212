//! A planner with maps in memory, and its operations in short.

use std::collections::BTreeMap;

use millrace_agent::{
    datapath::{MemoryTables, Outcome, carry_out},
    diff::{Op, Plan, Planner, Sizes, Word},
    lb::WantedPort,
    model::ServiceKey,
};
use millrace_common::service::SetWord;

use crate::support::wanted::key;

pub(crate) const SIZES: Sizes = Sizes { services: 16, frontends: 64, backends: 64, slots: 64, source_ranges: 16 };

/// A planner and the maps that it writes.
pub(crate) struct Node {
    pub(crate) planner: Planner,
    pub(crate) tables: MemoryTables,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with(SIZES)
    }

    pub(crate) fn with(sizes: Sizes) -> Self {
        Self { planner: Planner::new(sizes), tables: MemoryTables::new(sizes) }
    }

    pub(crate) fn plan(&mut self, ports: &[WantedPort]) -> Plan {
        let mut by_service: BTreeMap<ServiceKey, Vec<WantedPort>> = BTreeMap::new();
        for port in ports {
            by_service.entry(port.name.service.clone()).or_default().push(port.clone());
        }
        self.planner.plan(by_service.iter().map(|(key, ports)| (key, ports.as_slice())))
    }

    pub(crate) fn write(&mut self, plan: &Plan) -> Outcome {
        carry_out(plan, &mut self.planner, &mut self.tables)
    }

    /// Plans and writes; the operations, in short.
    pub(crate) fn bring(&mut self, ports: &[WantedPort]) -> Vec<String> {
        let plan = self.plan(ports);
        assert_eq!(plan.refused, []);
        let outcome = self.write(&plan);
        assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
        plan.ops().map(short).collect()
    }

    pub(crate) fn delete(&mut self, service: &str) -> Vec<String> {
        let plan = self.planner.plan([(&key(service), [].as_slice())]);
        self.write(&plan);
        plan.ops().map(short).collect()
    }

    pub(crate) fn grace(&mut self) -> Vec<String> {
        if let Some(ticket) = self.planner.pending_grace() {
            self.planner.graced(ticket);
        }
        let chores = self.planner.chores();
        self.write(&chores);
        chores.ops().map(short).collect()
    }
}

pub(crate) fn short(op: &Op) -> String {
    match op {
        Op::StoreBackend { id, state } => {
            let verb = if state.serving() { "serves" } else { "stops" };
            format!("backend {id} {verb} in epoch {}", state.epoch())
        }
        Op::WriteBlock { base, slots, .. } => format!("block {base} of {}", slots.len()),
        Op::StoreName { index, name } if name.0[0] == 0 => format!("no name {index}"),
        Op::StoreName { index, .. } => format!("name {index}"),
        Op::StoreWord { index, word: Word::Attributes, .. } => format!("attributes {index}"),
        Op::StoreWord { index, word, value } => {
            let word = if *word == Word::Cluster { "cluster" } else { "local" };
            match (SetWord(*value).count(), SetWord(*value).base()) {
                (0, 0) => format!("{word} {index} unused"),
                (0, 1) => format!("{word} {index} reject"),
                (0, _) => format!("{word} {index} drop"),
                (count, base) => format!("{word} {index} to {count} at {base}"),
            }
        }
        Op::Grace => "grace".to_owned(),
        Op::InsertFrontend { frontend, kind, index } => format!("+ {} {frontend} {index}", kind.name()),
        Op::DeleteFrontend { frontend } => format!("- {frontend}"),
        Op::InsertOwned { address } => format!("+ owned {address}"),
        Op::DeleteOwned { address } => format!("- owned {address}"),
        Op::InsertRange { index, range } => format!("{index} lets {range} in"),
        Op::DeleteRange { index, range } => format!("{index} keeps {range} out"),
        Op::InsertCidr { cidr } => format!("+ range {cidr}"),
        Op::DeleteCidr { cidr } => format!("- range {cidr}"),
    }
}
