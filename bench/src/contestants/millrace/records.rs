//! The services' set words, read from the pinned map: when one changes, new connections see the new endpoints.

use std::collections::HashMap;

use anyhow::{Context, Result};
use aya::maps::{Array, Map, MapData};
use millrace_agent::{
    datapath::{Pins, snapshot},
    lb::Family,
};
use millrace_common::service::ServiceRecord;

use crate::cluster;

/// The index of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record(u32);

pub(super) struct Records {
    map: Array<MapData, ServiceRecord>,
    by_name: HashMap<String, u32>,
}

impl Records {
    /// After all services are programmed: later ones are not found.
    pub(super) fn open(pins: &Pins) -> Result<Self> {
        let names = snapshot(pins)?.names;
        let by_name = names.iter().map(|(index, name)| (name.clone(), *index)).collect();
        let map = Map::from_map_data(MapData::from_pin(pins.map("SERVICES"))?)?;
        Ok(Self { map: map.try_into()?, by_name })
    }

    /// Of the TCP port of service `i`.
    pub(super) fn of_service(&self, i: u32, family: Family) -> Result<Record> {
        let name = format!("{}/{}:http/TCP/{}", cluster::NAMESPACE, cluster::name(i), family.name());
        self.by_name.get(&name).copied().map(Record).with_context(|| format!("{name} is not programmed"))
    }

    pub(super) fn cluster_word(&self, record: Record) -> Result<u64> {
        Ok(self.map.get(&record.0, 0).context("read SERVICES")?.cluster)
    }
}
