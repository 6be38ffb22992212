//! From the index to what this node wants: pure decisions, no I/O, no clock.

mod wanted;

pub use wanted::{Family, Frontend, PortName, Set, WantedPort};
