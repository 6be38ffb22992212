//! What `cargo xtask bench` is made of.
//!
//! ```text
//! cluster                the services that are measured, as the API server and as kube-proxy have them
//! rivals                 kube-proxy's modes, as generators of rules
//! topology, probe        a node with a client and a server, and what runs in their pods
//! contestants            millrace, the rivals and the direct path, each on a topology of its own
//! services               who is measured when
//! scale                  a large cluster's events, simulated, in the agent's pipeline
//! report, machine, stats what was found: JSON, Markdown, plots
//! ```

pub mod cluster;
pub mod rivals;

pub mod probe;
pub mod topology;

pub mod contestants;
pub mod services;

pub mod scale;

pub mod machine;
pub mod report;
pub mod stats;
