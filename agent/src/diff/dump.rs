//! A snapshot as text that does not depend on indices, ids, blocks or the order in which things happened: two nodes
//! that want the same print the same.

use std::{collections::BTreeMap, fmt, fmt::Write as _};

use millrace_common::service::{Attributes, NoEndpoints, SetWord};

use super::Snapshot;
use crate::lb::{Family, Frontend};

/// One paragraph per record, sorted by name; then the marks of owned addresses and the service ranges.
#[must_use]
pub fn dump(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_all(snapshot, &mut text);
    text
}

fn write_all(snapshot: &Snapshot, text: &mut String) -> fmt::Result {
    let mut frontends: BTreeMap<u32, Vec<&Frontend>> = BTreeMap::new();
    for (frontend, (_, index)) in &snapshot.frontends {
        frontends.entry(*index).or_default().push(frontend);
    }
    let by_name: BTreeMap<&String, u32> = snapshot.names.iter().map(|(index, name)| (name, *index)).collect();
    for (name, index) in by_name {
        writeln!(text, "service {name}")?;
        let record = snapshot.records.get(&index).copied().unwrap_or_default();
        write_attributes(text, Attributes(record.attributes))?;
        for frontend in frontends.remove(&index).unwrap_or_default() {
            let (kind, _) = snapshot.frontends[frontend];
            writeln!(text, "  {} {frontend}", kind.name())?;
        }
        for range in snapshot.ranges.get(&index).into_iter().flatten() {
            writeln!(text, "  from {range}")?;
        }
        let family = if name.ends_with("/v6") { Family::V6 } else { Family::V4 };
        for (label, word) in [("cluster", record.cluster), ("local", record.local)] {
            writeln!(text, "  {label}: {}", set(snapshot, index, family, SetWord(word)))?;
        }
    }
    for frontend in frontends.into_values().flatten() {
        writeln!(text, "frontend {frontend} leads to no service")?;
    }
    for address in &snapshot.owned {
        writeln!(text, "owned {address}")?;
    }
    for cidr in &snapshot.cidrs {
        writeln!(text, "range {cidr}")?;
    }
    Ok(())
}

fn write_attributes(text: &mut String, attributes: Attributes) -> fmt::Result {
    for (flag, words) in [
        (Attributes::INTERNAL_LOCAL, "internal traffic policy Local"),
        (Attributes::EXTERNAL_LOCAL, "external traffic policy Local"),
        (Attributes::SOURCE_RANGES, "source ranges"),
    ] {
        if attributes.has(flag) {
            writeln!(text, "  {words}")?;
        }
    }
    if attributes.has(Attributes::AFFINITY) {
        writeln!(text, "  affinity {} s", attributes.affinity_seconds())?;
    }
    Ok(())
}

fn set(snapshot: &Snapshot, index: u32, family: Family, word: SetWord) -> String {
    if word.count() == 0 {
        let reason = match word.no_endpoints() {
            NoEndpoints::Unused => "unused",
            NoEndpoints::Reject => "reject",
            NoEndpoints::Drop => "drop",
        };
        return reason.to_owned();
    }
    let end = word.base().saturating_add(word.count());
    let mut members: Vec<_> =
        snapshot.slots.range((family, word.base())..(family, end)).map(|(_, slot)| slot).collect();
    members.sort_by_key(|slot| slot.address);
    let mut text = String::new();
    for slot in &members {
        let serves = snapshot.backends.get(&slot.backend).is_some_and(|state| state.serving());
        let note = match (slot.owner == index, serves) {
            (false, _) => " (of another record)",
            (true, false) => " (does not serve)",
            (true, true) => "",
        };
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}{}{note}", slot.address);
    }
    if word.has_table() {
        text.push_str("; maglev");
    }
    let missing = word.count() as usize - members.len().min(word.count() as usize);
    if missing > 0 {
        let _ = write!(text, " ({missing} slots beyond the map)");
    }
    text
}
