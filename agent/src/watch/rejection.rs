//! What makes no sense, and for how long that leaves something open.

use std::{fmt, path::Path, sync::Arc};

use super::ObjectKey;

/// A bad object, by name, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// `Service shop/cart`, or a file's path; on one line, as `reason` is.
    pub object: String,
    /// What is wrong and how to mend it.
    pub reason: String,
    /// `None`: all but a part of it is in force.
    pub doubt: Option<Doubt>,
}

/// What a source cannot say, until it says [`super::Change::Settled`] of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Doubt {
    /// What one object wants to be.
    Object(ObjectKey),
    /// Which objects a file or a directory holds.
    File(Arc<Path>),
}

impl Rejection {
    /// Nothing of it can be put in force.
    #[must_use]
    pub fn whole(doubt: Doubt, reason: String) -> Self {
        Self { object: on_one_line(doubt.to_string()), reason: on_one_line(reason), doubt: Some(doubt) }
    }

    /// The rest of the object is in force.
    #[must_use]
    pub fn part(object: &impl fmt::Display, reason: String) -> Self {
        Self { object: on_one_line(object.to_string()), reason: on_one_line(reason), doubt: None }
    }
}

/// Whatever names and keys an object has, it begins no line of the log.
fn on_one_line(text: String) -> String {
    if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.reason)
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(key) => key.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
