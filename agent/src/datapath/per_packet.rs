//! The maps that tell the socket hooks whom to leave alone.

use std::{collections::BTreeSet, io};

use aya::maps::{HashMap, MapData};
use millrace_common::per_packet::Levels;

use super::{
    Pins, SetupError, TableError,
    error::map_error,
    tables::{absent_is_fine, array, hash},
    words::SharedArray,
};
use crate::diff::PacketPlan;

const CGROUPS: &str = "PACKET_CGROUPS";
const LEVELS: &str = "PACKET_LEVELS";

/// The maps of one bpffs path, open for writing, and what they hold.
pub struct PacketTables {
    cgroups: HashMap<MapData, u64, u32>,
    levels: SharedArray<Levels>,
    held: BTreeSet<u64>,
}

impl PacketTables {
    /// With what an earlier agent left in them.
    ///
    /// # Errors
    /// Names the map.
    pub fn open(pins: &Pins) -> Result<Self, SetupError> {
        let cgroups = hash(pins, CGROUPS)?;
        let held = cgroups.keys().collect::<Result<_, _>>();
        let held = held.map_err(|source| SetupError::Map { map: CGROUPS.to_owned(), operation: "read", source })?;
        Ok(Self { cgroups, levels: array(pins, LEVELS)?, held })
    }

    /// Ids of the cgroups that are left alone.
    #[must_use]
    pub fn held(&self) -> &BTreeSet<u64> {
        &self.held
    }

    /// Carries out what it can of a plan.
    ///
    /// # Errors
    /// What the kernel refused first; plan anew.
    pub fn apply(&mut self, plan: &PacketPlan) -> Result<(), TableError> {
        for id in &plan.delete {
            absent_is_fine(self.cgroups.remove(id)).map_err(refused(CGROUPS, "delete"))?;
            self.held.remove(id);
        }
        self.levels.store_word(0, 0, plan.levels.0).map_err(refused(LEVELS, "store"))?;
        for id in &plan.insert {
            self.cgroups.insert(id, 1, 0).map_err(map_error).map_err(refused(CGROUPS, "insert"))?;
            self.held.insert(*id);
        }
        Ok(())
    }
}

fn refused(map: &'static str, operation: &str) -> impl Fn(io::Error) -> TableError {
    move |source| TableError { map, operation: operation.to_owned(), source }
}
