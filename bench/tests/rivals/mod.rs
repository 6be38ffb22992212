//! Shared by the tests that set rivals up.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

pub(crate) mod checks;
pub(crate) mod stage;
