//! A directory of manifests as the source: what an operator who edits files may rely on.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where, at once")]
#![expect(unreachable_pub, reason = "modules of one test")]

mod source;

mod arbitrary;
mod changes;
mod directories;
mod mistakes;
mod pods;
mod reading;
