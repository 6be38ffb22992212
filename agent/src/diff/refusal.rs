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
    #[error("{count} endpoints are more than one set can hold ({limit}); split the Service")]
    SetTooLarge { count: usize, limit: u32 },
}
