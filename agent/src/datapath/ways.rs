//! What XDP remembers of the ways of flows holds until something changes: the agent counts what it hears of.

use std::io;

use super::{Pins, SetupError, tables::array, words::SharedArray};

/// ROUTE_CHANGES, which the programs look at.
pub struct RouteChanges(SharedArray<u64>);

impl RouteChanges {
    /// # Errors
    /// The map is missing or of another shape.
    pub fn open(pins: &Pins) -> Result<Self, SetupError> {
        array(pins, "ROUTE_CHANGES").map(Self)
    }

    /// Routes, rules, neighbours, devices or addresses have changed: the kernel is asked anew.
    ///
    /// # Errors
    /// The map cannot be mapped into memory.
    pub(super) fn count(&self) -> io::Result<()> {
        self.0.store_word(0, 0, self.0.read(0)?.wrapping_add(1))
    }
}
