//! What runs inside the pods: a server that accepts and echoes, a client that measures several targets in turn.

pub mod client;
pub mod server;
