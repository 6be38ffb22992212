//! Which service ranges stand in SERVICE_CIDRS: all, while they fit.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::Plan;
use crate::lb::Family;

/// Operations for the service ranges.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CidrPlan {
    pub plan: Plan,
    /// Ranges that there is no room for: traffic to their addresses that no service has is forwarded rather than dropped.
    pub left_out: BTreeSet<IpNet>,
}

/// What comes and goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    pub inserts: Vec<IpNet>,
    pub deletes: Vec<IpNet>,
    pub left_out: BTreeSet<IpNet>,
    /// There is no room for what comes before what goes has gone.
    pub crowded: bool,
}

/// With `capacity` places in each family. What lies within another range needs none of its own; of the rest, those that
/// stand there stay, then come the widest.
pub(super) fn choose(known: &BTreeSet<IpNet>, wanted: &BTreeSet<IpNet>, capacity: u32) -> Choice {
    let mut choice = Choice::default();
    for family in [Family::V4, Family::V6] {
        let of_family = |range: &&IpNet| Family::of(range.addr()) == family;
        let outermost = outermost(wanted.iter().filter(of_family));
        let known: BTreeSet<IpNet> = known.iter().filter(of_family).copied().collect();
        let kept = known.intersection(&outermost).count();
        let mut inserts: Vec<IpNet> = outermost.difference(&known).copied().collect();
        inserts.sort_by_key(|range| (range.prefix_len(), *range));
        let free = (capacity as usize).saturating_sub(kept);
        choice.left_out.extend(inserts.split_off(free.min(inserts.len())));
        choice.crowded |= known.len() + inserts.len() > capacity as usize;
        choice.inserts.extend(inserts);
        choice.deletes.extend(known.difference(&outermost));
    }
    choice
}

/// Those of the ranges that lie within no other one.
fn outermost<'a>(ranges: impl Iterator<Item = &'a IpNet>) -> BTreeSet<IpNet> {
    let mut sorted: Vec<IpNet> = ranges.copied().collect();
    // A range comes right before all that lie within it.
    sorted.sort_by_key(|range| (range.network(), range.prefix_len()));
    let mut outermost: Vec<IpNet> = Vec::new();
    for range in sorted {
        if outermost.last().is_none_or(|last| !last.contains(&range)) {
            outermost.push(range);
        }
    }
    outermost.into_iter().collect()
}
