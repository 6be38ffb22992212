//! How many entries each map has, from the operator's limits.

use millrace_common::maps::{self, MapSpec};

use crate::diff::Sizes;

/// The operator's limits. Every size becomes a power of two at least as large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Service records: a service port in one family.
    pub services: u32,
    /// Frontends in each family, the marks of owned addresses included.
    pub frontends: u32,
    pub backends: u32,
    /// Slots in each family.
    pub slots: u32,
    /// Source ranges in each family: those of a Service count once for each of its ports.
    pub source_ranges: u32,
    /// CT entries in each family: two for each flow.
    pub flows: u32,
    /// Remembered clients in each family.
    pub affinity: u32,
    /// TCP sockets of both families whose frontend is remembered.
    pub sockets: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            services: maps::SERVICES,
            frontends: maps::FRONTENDS,
            backends: maps::BACKENDS,
            slots: maps::SLOTS,
            source_ranges: maps::SOURCE_RANGES,
            flows: maps::FLOWS,
            affinity: maps::AFFINITY,
            sockets: maps::SOCKETS,
        }
    }
}

impl Limits {
    /// Entries for the map that `spec` describes.
    #[must_use]
    pub fn entries(&self, spec: &MapSpec) -> u32 {
        let entries = match spec.name {
            "SERVICES" | "NAMES" => self.services,
            "FRONTENDS_V4" | "FRONTENDS_V6" => self.frontends,
            "BACKENDS" => self.backends,
            "SLOTS_V4" | "SLOTS_V6" => self.slots,
            "SOURCE_RANGES_V4" | "SOURCE_RANGES_V6" => self.source_ranges,
            "CT_V4" | "CT_V6" => self.flows,
            "AFFINITY_V4" | "AFFINITY_V6" => self.affinity,
            "SOCKETS" => self.sockets,
            _ => return spec.max_entries,
        };
        entries.max(1).next_power_of_two()
    }

    /// What the planner may use.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let round = |entries: u32| entries.max(1).next_power_of_two();
        Sizes {
            services: round(self.services),
            frontends: round(self.frontends),
            backends: round(self.backends),
            slots: round(self.slots),
            source_ranges: round(self.source_ranges),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two_and_never_below_what_was_asked_for() {
        let limits = Limits { services: 10_000, ..Limits::default() };
        assert_eq!(limits.sizes().services, 16_384);
        for spec in maps::ALL {
            let entries = limits.entries(spec);
            assert!(entries.is_power_of_two(), "{} has {entries} entries", spec.name);
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_object() {
        for spec in maps::ALL {
            assert_eq!(Limits::default().entries(spec), spec.max_entries, "{}", spec.name);
        }
    }
}
