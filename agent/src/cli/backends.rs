//! `backends`: every endpoint that a service port may choose.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::{
    Reading,
    output::{self, Row},
};
use crate::{
    datapath::snapshot,
    diff::{Snapshot, SnapshotSlot},
};

#[derive(Serialize)]
struct Backend {
    id: u32,
    /// `None`: no set holds it any more, flows to it go on while it serves.
    address: Option<String>,
    service: Option<String>,
    serving: bool,
    epoch: u32,
}

impl Row for Backend {
    const HEADER: &'static [&'static str] = &["ID", "ADDRESS", "SERVICE PORT", "SERVING", "EPOCH"];

    fn cells(&self) -> Vec<String> {
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let serving = if self.serving { "yes" } else { "no" };
        vec![
            self.id.to_string(),
            known(&self.address),
            known(&self.service),
            serving.to_owned(),
            self.epoch.to_string(),
        ]
    }
}

pub(super) fn print(reading: &Reading) -> Result<()> {
    let snapshot = snapshot(&reading.pins()?)?;
    output::print(reading.output, &rows(&snapshot), "no backends")
}

/// Those that serve or are in a set: an id that was freed keeps its epoch in the map, which is no news.
fn rows(snapshot: &Snapshot) -> Vec<Backend> {
    let slots: BTreeMap<u32, &SnapshotSlot> = snapshot.slots.values().map(|slot| (slot.backend, slot)).collect();
    snapshot
        .backends
        .iter()
        .filter(|(id, state)| state.serving() || slots.contains_key(id))
        .map(|(id, state)| {
            let slot = slots.get(id);
            Backend {
                id: *id,
                address: slot.map(|slot| slot.address.to_string()),
                service: slot.and_then(|slot| snapshot.names.get(&slot.owner).cloned()),
                serving: state.serving(),
                epoch: state.epoch(),
            }
        })
        .collect()
}
