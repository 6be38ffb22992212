//! The ways in which API servers, and what lies between, fail.

use std::time::Duration;

use super::request::{Kind, Verb};

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// A `Status` object with this code.
    Status(u16),
    /// Code 429 in plain text with `Retry-After` in seconds, as the server's overload filter writes it.
    RetryAfter(u64),
    /// The answer comes, but only after a while.
    Slow(Duration),
    /// The connection stays open and nothing comes.
    NoAnswer,
    /// The answer comes once the faults are taken back.
    Held,
    /// The connection ends without an answer.
    NoConnection,
    /// The connection ends in the middle of the answer.
    HalfAnswer,
    /// A watch that is opened and ended at once.
    EndAtOnce,
}

/// What becomes of an open watch.
#[derive(Clone, Copy, Debug)]
pub enum Disturbance {
    /// No fault: the newest version, for watches that asked for such.
    Bookmark,
    /// Ended in good order.
    End,
    /// The connection ends within a line.
    CutMidLine,
    /// The connection stays open, and nothing comes any more.
    Stall,
    /// An ERROR event with this code, and the end.
    Error(u16),
    /// A line that is no JSON.
    Garbage,
}

pub(super) struct Rule {
    pub(super) kind: Kind,
    pub(super) verb: Verb,
    pub(super) fault: Fault,
    pub(super) times: usize,
}
