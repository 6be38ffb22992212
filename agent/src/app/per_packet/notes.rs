//! What the log says of pods that are translated per packet: each thing once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    diff::{ChosenPods, PacketPlan},
    model::{PodKey, PodUid},
};

/// The kubelet makes a pod's cgroup when it begins with the pod, and the source may list pods last; both may take a while.
/// Then somebody should know.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Notes {
    start: Instant,
    served: BTreeMap<PodUid, PodKey>,
    missing: BTreeMap<PodUid, Instant>,
    warned: BTreeSet<PodUid>,
    /// That the source has not named all pods.
    incomplete: bool,
    failure: Option<String>,
}

impl Default for Notes {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            served: BTreeMap::new(),
            missing: BTreeMap::new(),
            warned: BTreeSet::new(),
            incomplete: false,
            failure: None,
        }
    }
}

impl Notes {
    /// A plan was carried out. True when all that is wanted is so.
    pub(super) fn take(&mut self, wanted: &ChosenPods, plan: &PacketPlan) -> bool {
        self.failure = None;
        self.take_served(wanted, plan);
        self.take_missing(wanted, plan);
        if !wanted.complete && self.start.elapsed() >= PATIENCE && !std::mem::replace(&mut self.incomplete, true) {
            warn!(
                "the source has not named this node's pods and the namespaces in time: until it does, no pod that was \
                 translated per packet is given back to the socket hooks, and of the others only those that it named are; \
                 let the agent's service account list and watch pods and namespaces"
            );
        }
        wanted.complete && plan.missing.is_empty()
    }

    /// Nothing, or not all, was carried out: never all that is wanted.
    pub(super) fn failed(&mut self, error: &anyhow::Error) -> bool {
        let failure = format!("{error:#}");
        if self.failure.as_ref() != Some(&failure) {
            warn!("{failure}; will be tried again");
            self.failure = Some(failure);
        }
        false
    }

    fn take_served(&mut self, wanted: &ChosenPods, plan: &PacketPlan) {
        let there = wanted.pods.iter().filter(|(uid, _)| !plan.missing.contains(uid));
        let served: BTreeMap<_, _> = there.map(|(uid, pod)| (uid.clone(), pod.clone())).collect();
        for (_, pod) in served.iter().filter(|(uid, _)| !self.served.contains_key(uid)) {
            info!(%pod, "translated per packet: its next connections show the service's address");
        }
        for (_, pod) in self.served.iter().filter(|(uid, _)| !wanted.pods.contains_key(uid)) {
            info!(%pod, "no longer translated per packet");
        }
        self.served = served;
    }

    fn take_missing(&mut self, wanted: &ChosenPods, plan: &PacketPlan) {
        let now = Instant::now();
        self.missing.retain(|uid, _| plan.missing.contains(uid));
        self.warned.retain(|uid| plan.missing.contains(uid));
        for uid in &plan.missing {
            let since = *self.missing.entry(uid.clone()).or_insert(now);
            if now - since >= PATIENCE && self.warned.insert(uid.clone()) {
                let pod = wanted.pods.get(uid).map(ToString::to_string).unwrap_or_default();
                warn!(
                    pod,
                    %uid,
                    "no cgroup below --cgroup-root has the pod's UID in its name: the socket hooks go on translating it; \
                     the kubelet must run on cgroup v2 with --cgroups-per-qos, or use --socket-lb host-only"
                );
            }
        }
    }
}
