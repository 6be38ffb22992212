//! The API server as the source: whatever happens on the way, the source ends with the server's view, and nothing is
//! taken away because a list was slow or failed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where, at once")]
#![expect(unreachable_pub, reason = "modules of one test")]

mod objects;
mod shop;

mod events;
mod following;
mod lists;
mod pods;
mod watches;
