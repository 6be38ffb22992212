//! What `cargo xtask bench` is made of: a probe that runs inside pods, the topology, the rivals, the figures.

pub mod probe;
pub mod rivals;
pub mod stats;

pub mod cluster;
pub mod services;
