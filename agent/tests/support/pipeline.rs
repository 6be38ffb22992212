//! From changes to the maps in memory, as the agent's loop joins the stages.

use std::collections::BTreeSet;

use millrace_agent::{
    datapath::{Outcome, Tables, carry_out},
    diff::{Op, Plan, Planner, Sizes},
    lb::{Balancer, NodeInfo},
    model::{Index, ServiceKey},
    watch::Change,
};

pub struct Pipeline<T> {
    pub index: Index,
    pub balancer: Balancer,
    pub planner: Planner,
    pub tables: T,
    /// Not in the maps as wanted yet.
    pub dirty: BTreeSet<ServiceKey>,
    pub outcome: Outcome,
    pub refused: Vec<String>,
}

pub fn node() -> NodeInfo {
    NodeInfo {
        name: "n1".into(),
        zone: Some("a".into()),
        addresses: ["10.0.0.1", "fd00::1"].map(|ip| ip.parse().expect("an address")).into(),
        ..NodeInfo::default()
    }
}

impl<T: Tables> Pipeline<T> {
    pub fn new(sizes: Sizes, tables: T) -> Self {
        Self {
            index: Index::default(),
            balancer: Balancer::new(node()),
            planner: Planner::new(sizes),
            tables,
            dirty: BTreeSet::new(),
            outcome: Outcome::default(),
            refused: Vec::new(),
        }
    }

    pub fn apply(&mut self, change: Change) {
        let mut dirty = self.index.apply(change).services;
        self.dirty.append(&mut dirty);
    }

    /// Decides, plans and writes what is dirty. What fails stays dirty.
    pub fn sync(&mut self) -> Vec<Op> {
        let dirty = std::mem::take(&mut self.dirty);
        let decisions = self.balancer.decide(&self.index, dirty);
        let plan = self.planner.plan(decisions.iter().map(|(key, decision)| (key, decision.ports.as_slice())));
        self.refused = plan.refused.iter().map(ToString::to_string).collect();
        self.write(&plan);
        plan.ops().cloned().collect()
    }

    pub fn write(&mut self, plan: &Plan) {
        self.outcome = carry_out(plan, &mut self.planner, &mut self.tables);
        self.dirty.extend(self.outcome.dirty.iter().cloned());
    }

    /// A grace period off the critical path, and what it makes possible. False when nothing waited for one.
    pub fn grace(&mut self) -> bool {
        let ticket = self.planner.pending_grace();
        if let Some(ticket) = ticket
            && self.tables.execute(&Op::Grace).is_ok()
        {
            self.planner.graced(ticket);
        }
        let chores = self.planner.chores();
        self.write(&chores);
        self.dirty.extend(self.planner.retry());
        ticket.is_some() || !chores.is_empty()
    }

    /// Until there is nothing left to do.
    pub fn settle(&mut self) {
        for _ in 0..200 {
            self.sync();
            if !self.grace() && self.dirty.is_empty() {
                return;
            }
        }
        panic!("no end of work: {} services dirty, {:?}", self.dirty.len(), self.outcome.errors);
    }
}
