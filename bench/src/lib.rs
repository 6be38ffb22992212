//! What `cargo xtask bench` is made of.
//!
//! ```text
//! cluster                the services that are measured, as the API server and as kube-proxy have them
//! rivals                 kube-proxy's modes, as generators of rules
//! topology, probe        a node with a client and a server, and what runs in their pods
//! contestants            millrace, the rivals and the direct path, each on a topology of its own
//! services               who is measured when
//! agent                  the agent's pipeline in this process
//! scale                  a large cluster's events, simulated, in that pipeline
//! packets                nanoseconds of one packet in a program
//! report, machine, stats what was found: JSON, Markdown, plots
//! ```

pub mod cluster;
pub mod rivals;

pub mod probe;
pub mod topology;

pub mod contestants;
pub mod services;

pub mod agent;
pub mod packets;
pub mod scale;

pub mod machine;
pub mod report;
pub mod stats;
