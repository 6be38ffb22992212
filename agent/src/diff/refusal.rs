//! What the maps have no room for.

use crate::lb::PortName;

/// A service port that cannot be programmed as wanted: what is in the maps of it stays as it is, others keep working,
/// and it is tried again when room appears.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{port}: {reason}")]
pub struct Refusal {
    pub port: PortName,
    #[source]
    pub reason: NoRoom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    #[error("the map {map} is full ({capacity} entries); raise {flag}")]
    Full { map: &'static str, capacity: u32, flag: &'static str },
    /// The rest of the port is programmed.
    #[error(
        "its {count} source ranges do not fit into the map {map} ({capacity} entries), so its load balancer's addresses let in \
         nobody new; raise --max-source-ranges"
    )]
    SourceRanges { map: &'static str, count: usize, capacity: u32 },
    #[error("{count} endpoints are more than one set can hold ({limit}); split the Service")]
    SetTooLarge { count: usize, limit: u32 },
}

impl NoRoom {
    /// The port is programmed all the same, without a part.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        matches!(self, Self::SourceRanges { .. })
    }
}
