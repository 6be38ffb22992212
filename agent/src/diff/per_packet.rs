//! Which cgroups the socket hooks leave alone: from the pods that are chosen and the cgroups that are there to what is to
//! be written.

use std::collections::{BTreeMap, BTreeSet};

use millrace_common::per_packet::Levels;

use crate::model::{PodKey, PodUid};

/// Pods that are translated per packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChosenPods {
    pub pods: BTreeMap<PodUid, PodKey>,
    /// False while the source may still name others, or what their namespaces say: until then nothing is taken back.
    pub complete: bool,
}

/// A pod's cgroup, as it is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodCgroup {
    pub uid: PodUid,
    pub id: u64,
    /// Distance from the root of the hierarchy, as far as it can be seen from here.
    pub level: u32,
}

/// The cgroups of the pods on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodCgroups {
    pub found: BTreeSet<PodCgroup>,
    /// The root of the hierarchy is beyond what can be seen from here (a cgroup namespace): levels may be higher.
    pub beyond: bool,
}

/// What to write, in this order: there is room for what is new, and a cgroup that is in the map is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketPlan {
    pub delete: BTreeSet<u64>,
    pub levels: Levels,
    pub insert: BTreeSet<u64>,
    /// Chosen, and their cgroups are not there (yet).
    pub missing: BTreeSet<PodUid>,
}

/// `held` is what the map has now.
#[must_use]
pub fn plan_per_packet(chosen: &ChosenPods, cgroups: &PodCgroups, held: &BTreeSet<u64>) -> PacketPlan {
    // A cgroup that is not there any more is nobody's, and its id is never given again: it carries a generation
    // (`kernfs_node.id`).
    let stays =
        |cgroup: &&PodCgroup| chosen.pods.contains_key(&cgroup.uid) || (!chosen.complete && held.contains(&cgroup.id));
    let wanted: Vec<&PodCgroup> = cgroups.found.iter().filter(stays).collect();
    let ids: BTreeSet<u64> = wanted.iter().map(|cgroup| cgroup.id).collect();
    let there: BTreeSet<&PodUid> = wanted.iter().map(|cgroup| &cgroup.uid).collect();
    PacketPlan {
        delete: held - &ids,
        levels: levels(wanted.iter().map(|cgroup| cgroup.level), cgroups.beyond),
        insert: &ids - held,
        missing: chosen.pods.keys().filter(|uid| !there.contains(uid)).cloned().collect(),
    }
}

fn levels(of: impl Iterator<Item = u32> + Clone, beyond: bool) -> Levels {
    match (of.clone().min(), of.max()) {
        (Some(first), Some(last)) => Levels::new(first.max(1), if beyond { u32::MAX } else { last }),
        _ => Levels::NONE,
    }
}
