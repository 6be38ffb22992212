//! Changes in, map operations out: what is known, what is wanted of it, and what could not be done yet. No clock, no
//! tasks: the loop around it says when.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use tracing::{debug, info, warn};

use super::{doubts::Doubts, findings::Findings};
use crate::{
    datapath::{Tables, carry_out},
    diff::{ChosenPods, CidrPlan, Plan, Planner, Ticket},
    lb::{Assigned, Balancer, HealthCheck, NodeInfo, Origins, OwnAddresses, per_packet, service_ranges},
    model::{Index, ServiceKey},
    watch::{Change, Rejection, Warning},
};

/// Services decided and planned at a time: decisions and plans of a whole cluster would take more memory than all
/// that is known of it.
const BATCH: usize = 256;

/// The stages behind the sources, joined.
pub struct Pipeline<T> {
    index: Index,
    balancer: Balancer,
    planner: Planner,
    tables: T,
    /// As the operator and the kernel describe this node; the Node object may add to it.
    node: NodeInfo,
    assigned: Assigned,
    own: OwnAddresses,
    cidrs: BTreeSet<IpNet>,
    /// To be decided anew.
    dirty: BTreeSet<ServiceKey>,
    /// An operation for them failed: to be decided anew, after a pause.
    failed: BTreeSet<ServiceKey>,
    /// Housekeeping is due.
    chores: bool,
    findings: Findings,
    per_packet: ChosenPods,
    doubts: Doubts,
    pods_synced: bool,
    started: Started,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Started {
    /// Nothing is written: a service whose slices have not come yet would lose its endpoints.
    Listening,
    /// The source takes too long: services that an earlier agent left are not touched.
    Impatient,
    Synced,
}

/// What one round of deciding and writing came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Operations that succeeded.
    pub written: usize,
    /// Operations that the kernel refused.
    pub failures: usize,
}

impl<T: Tables> Pipeline<T> {
    /// `planner` knows what an earlier agent left in `tables`.
    pub fn new(node: NodeInfo, cidrs: impl IntoIterator<Item = IpNet>, planner: Planner, tables: T) -> Self {
        let doubts = Doubts::new(planner.services().cloned());
        let mut balancer = Balancer::new(node.clone());
        doubts.restored().for_each(|service| balancer.hold(service, &planner.frontends(service).collect()));
        Self {
            doubts,
            index: Index::default(),
            balancer,
            planner,
            tables,
            node,
            assigned: Assigned::default(),
            own: OwnAddresses::default(),
            cidrs: cidrs.into_iter().collect(),
            dirty: BTreeSet::new(),
            failed: BTreeSet::new(),
            chores: true,
            findings: Findings::default(),
            per_packet: ChosenPods::default(),
            pods_synced: false,
            started: Started::Listening,
        }
    }

    /// Takes in what the source says; writes nothing.
    pub fn take(&mut self, change: Change) {
        match change {
            Change::Rejected(Rejection { object, reason, doubt: None }) => {
                warn!(object, reason, "in force as far as it can be");
            }
            Change::Rejected(Rejection { object, reason, doubt: Some(doubt) }) => {
                self.findings.rejected(&object, &reason, &doubt);
                self.doubts.raise(doubt);
            }
            Change::Settled(doubt) => {
                self.doubts.settle(&doubt);
                self.per_packet.complete |= self.pods_synced && !self.doubts.hide_pods();
                self.dirty.extend(self.doubts.restored().cloned());
            }
            Change::Synced => self.synced(),
            Change::PodsSynced => {
                self.pods_synced = true;
                self.per_packet.complete = !self.doubts.hide_pods();
            }
            change => {
                let dirty = self.index.apply(change);
                self.dirty.extend(dirty.services);
                if dirty.node {
                    self.renew_node();
                }
                if dirty.pods {
                    self.per_packet.pods = per_packet(&self.index);
                }
            }
        }
    }

    /// What an earlier agent told the programs: it stays in force until something better is known.
    pub fn restore_own(&mut self, own: OwnAddresses) {
        self.own = own;
    }

    /// The addresses that are assigned to the node: their frontends are the node's own business.
    pub fn set_addresses(&mut self, assigned: Assigned) {
        self.node.addresses.clone_from(&assigned.all);
        self.assigned = assigned;
        self.renew_node();
    }

    /// As whom the node asks backends, and which addresses are its own.
    #[must_use]
    pub fn own_addresses(&self) -> &OwnAddresses {
        &self.own
    }

    /// The source has not said everything in time.
    pub fn stop_waiting(&mut self) {
        if self.started == Started::Listening {
            self.started = Started::Impatient;
        }
    }

    /// True once the source has said everything that it knew at its start.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.started == Started::Synced
    }

    /// The node is about to be removed from the cluster.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.index.node().is_some_and(|node| node.leaving)
    }

    /// Tries again what failed.
    pub fn retry(&mut self) {
        self.dirty.append(&mut self.failed);
    }

    /// Something is known that the maps do not say, for another reason than a lack of room.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.failed.is_empty() || !self.dirty.is_empty()
    }

    /// Decides what is dirty and writes the difference; then what there is room for again.
    pub fn round(&mut self) -> Round {
        let mut round = Round::default();
        if self.started == Started::Listening {
            return round;
        }
        if std::mem::take(&mut self.chores) {
            let plan = self.planner.chores();
            self.carry_out(&plan, &mut round);
        }
        let mut due = self.due();
        // What the chores have freed may be all that somebody waits for.
        due.extend(self.planner.retry());
        while !due.is_empty() {
            let batch = std::iter::from_fn(|| due.pop_first()).take(BATCH).collect();
            let decisions = self.balancer.decide(&self.index, batch);
            decisions.iter().for_each(|(key, decision)| self.findings.decided(key, decision));
            let plan = self.planner.plan(decisions.iter().map(|(key, decision)| (key, &*decision.ports)));
            self.findings.planned(decisions.keys(), &plan);
            self.carry_out(&plan, &mut round);
            if due.is_empty() {
                due.extend(self.planner.retry());
            }
        }
        if self.started == Started::Synced {
            let mut cidrs: BTreeSet<_> = self.cidrs.iter().copied().chain(self.index.cidrs()).collect();
            if self.doubts.hide_ranges() {
                cidrs.extend(self.planner.cidrs());
            }
            let ranges = service_ranges(&cidrs, &self.node.addresses);
            let CidrPlan { plan, left_out } = self.planner.plan_cidrs(&ranges);
            self.findings.ranges_left_out(left_out);
            self.carry_out(&plan, &mut round);
        }
        // What failed in part left remains.
        self.chores |= round.failures > 0;
        round
    }

    /// A grace period that was asked for with `ticket` is over: what waited for it may be used again.
    pub fn graced(&mut self, ticket: Ticket) {
        self.planner.graced(ticket);
        self.chores = true;
        let retry = self.planner.retry();
        self.dirty.extend(retry);
    }

    /// Something waits for a grace period: [`Self::graced`] wants to be told when one that begins now is over.
    pub fn pending_grace(&mut self) -> Option<Ticket> {
        self.planner.pending_grace()
    }

    /// The agent's end: the maps stay.
    #[must_use]
    pub fn into_tables(self) -> T {
        self.tables
    }

    #[must_use]
    pub fn tables(&self) -> &T {
        &self.tables
    }

    #[must_use]
    pub fn planner(&self) -> &Planner {
        &self.planner
    }

    /// Service ports that there is no room for, and Services that wait for a grace period or for another attempt.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let (ports, services) = self.findings.refused();
        // A grace period may make room: until it is over nobody was told of a port.
        let untold = self.planner.usage().refused.saturating_sub(services);
        ports + untold + self.failed.len()
    }

    #[must_use]
    pub fn conflicts(&self) -> usize {
        self.findings.conflicts()
    }

    /// How many services have a Local policy and no local endpoint: internal, external.
    #[must_use]
    pub fn no_local_endpoints(&self) -> (usize, usize) {
        self.findings.no_local()
    }

    /// Services that stay as an earlier agent left them, for what was rejected may concern them.
    #[must_use]
    pub fn held(&self) -> usize {
        self.doubts.held(&self.index).count()
    }

    /// What to tell the owners of objects, once.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        self.findings.take_warnings()
    }

    /// What load balancers are told, Service by Service.
    #[must_use]
    pub fn health_checks(&self) -> &BTreeMap<ServiceKey, HealthCheck> {
        self.findings.health_checks()
    }

    /// The pods of this node that the socket hooks leave alone.
    #[must_use]
    pub fn per_packet(&self) -> &ChosenPods {
        &self.per_packet
    }

    fn synced(&mut self) {
        self.started = Started::Synced;
        // What an earlier agent left and the source does not know any more.
        self.dirty.extend(self.planner.services().cloned());
        self.dirty.extend(self.index.owners().cloned());
        info!(services = self.index.services().count(), "the source is complete");
        let kept: Vec<ServiceKey> = self.doubts.held(&self.index).cloned().collect();
        self.findings.held(&kept);
    }

    /// What may be decided now. Before the source is complete, only services that the maps did not hold at the start, and
    /// then all that nothing is in doubt of.
    fn due(&mut self) -> BTreeSet<ServiceKey> {
        let mut due = std::mem::take(&mut self.dirty);
        let impatient = self.started == Started::Impatient;
        due.retain(|key| {
            let stays = if impatient { self.doubts.is_restored(key) } else { self.doubts.hold(key, &self.index) };
            if !stays {
                self.doubts.decided(key);
            }
            !stays
        });
        due
    }

    fn renew_node(&mut self) {
        let object = self.index.node();
        let before: Vec<_> = self.own.v4.into_iter().chain(self.own.v6).collect();
        self.own = self.assigned.choose(Origins {
            named: &self.node.primary,
            object: object.map(|node| &*node.addresses).or(self.node.stands_alone.then_some(&[])),
            before: &before,
        });
        let mut node = object.map_or_else(|| self.node.clone(), |node| self.node.clone().with_object(node));
        if node.stands_alone && node.primary.is_empty() {
            node.primary.extend(self.own.v4.into_iter().chain(self.own.v6));
        }
        if *self.balancer.node() == node {
            return;
        }
        debug!(zone = ?node.zone, addresses = node.addresses.len(), "this node has changed");
        self.balancer.set_node(node);
        self.dirty.extend(self.index.owners().cloned());
    }

    fn carry_out(&mut self, plan: &Plan, round: &mut Round) {
        let outcome = carry_out(plan, &mut self.planner, &mut self.tables);
        for error in &outcome.errors {
            warn!(%error, "will be tried again");
        }
        round.written += outcome.done;
        round.failures += outcome.errors.len();
        self.failed.extend(outcome.dirty);
    }
}
