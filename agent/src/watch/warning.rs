//! What the owner of an object should learn: it is skipped, or stays as it was.

use super::ObjectKey;

/// Of a Service or an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub object: ObjectKey,
    pub reason: WarningReason,
    /// What is wrong and how to mend it.
    pub note: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarningReason {
    /// It makes no sense; what was known of it stays in force.
    Rejected,
    /// It stays as an earlier agent left it.
    Held,
    /// The maps have no room for a port, or for a part of it.
    NoRoom,
    /// Another Service has a frontend that it names.
    FrontendTaken,
}

impl WarningReason {
    /// As an Event has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rejected => "Rejected",
            Self::Held => "Held",
            Self::NoRoom => "NoRoom",
            Self::FrontendTaken => "FrontendTaken",
        }
    }
}
