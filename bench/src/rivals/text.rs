//! Lines of rules, collected to be fed to a tool in one piece.

use std::fmt::{Arguments, Write};

/// One buffer; `put` ends each line.
#[derive(Debug, Default)]
pub(super) struct Lines(String);

impl Lines {
    pub(super) fn put(&mut self, line: Arguments<'_>) {
        // Writing into a String does not fail.
        let _ = self.0.write_fmt(line);
        self.0.push('\n');
    }

    pub(super) fn append(&mut self, other: &Self) {
        self.0.push_str(&other.0);
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}
