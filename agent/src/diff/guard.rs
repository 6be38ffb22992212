//! The source ranges that guard a record's load balancer addresses, as operations.
//!
//! They fail closed. Where the ranges do not all fit, none is added, for a part of a list is a list that nobody wrote; the
//! attributes say all the same that the addresses are guarded. So these let in those who stay from before, and nobody else,
//! while the rest of the port is programmed: its ClusterIP and its node ports are no business of the ranges.

use std::collections::BTreeSet;

use millrace_common::service::Attributes;

use super::{NoRoom, Op, Word, mirror::Mirror};
use crate::lb::{Family, WantedPort};

/// What becomes of a record's ranges.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// Before the attributes say that they guard.
    pub inserts: Vec<Op>,
    /// After everything else of the port.
    pub deletes: Vec<Op>,
    /// Ranges are left out.
    pub lacks: Option<NoRoom>,
}

/// Takes the room for the ranges that come; [`super::port::give_back`] returns it.
pub(super) fn guard(mirror: &mut Mirror, index: u32, wanted: &WantedPort) -> Guard {
    let none = BTreeSet::new();
    let known = mirror.ranges.get(&index).unwrap_or(&none);
    let deletes = known.difference(&wanted.source_ranges).map(|&range| Op::DeleteRange { index, range }).collect();
    let inserts: Vec<Op> =
        wanted.source_ranges.difference(known).map(|&range| Op::InsertRange { index, range }).collect();
    let (family, capacity) = (wanted.name.family, mirror.sizes.source_ranges);
    let taken = mirror.range_entries.of(family) + mirror.loans.ranges.of(family);
    let coming = inserts.len() as u32;
    if coming > 0 && taken.saturating_add(coming) > capacity {
        let map = match family {
            Family::V4 => "SOURCE_RANGES_V4",
            Family::V6 => "SOURCE_RANGES_V6",
        };
        let lacks = NoRoom::SourceRanges { map, count: wanted.source_ranges.len(), capacity };
        return Guard { inserts: Vec::new(), deletes, lacks: Some(lacks) };
    }
    *mirror.loans.ranges.of_mut(family) += coming;
    Guard { inserts, deletes, lacks: None }
}

/// Operations for a record that stays as it is, for want of room elsewhere: what guards it does not wait for that. A guard
/// that is wanted no more does, for the addresses that it was wanted for are still those in the maps.
pub(super) fn guard_ops(mirror: &mut Mirror, index: u32, wanted: &WantedPort) -> Vec<Op> {
    let Some(attributes) = mirror.record(index).map(|record| record.attributes) else { return Vec::new() };
    if !wanted.attributes.has(Attributes::SOURCE_RANGES) {
        return Vec::new();
    }
    let Guard { inserts, deletes, .. } = guard(mirror, index, wanted);
    let value = attributes | Attributes::new(Attributes::SOURCE_RANGES, 0).0;
    let closes = (value != attributes).then_some(Op::StoreWord { index, word: Word::Attributes, value });
    inserts.into_iter().chain(closes).chain(deletes).collect()
}
