//! A client outside the cluster, with real sockets against the whole product: what happens on the way and at the other
//! end must come to it, and to whom it talks, as if there were no node port in between.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod datagrams;
mod endpoints;
mod errors;
mod flood;
mod forged;
mod host_ports;
mod load;
mod node_port_range;
mod one_port;
mod sctp;
mod shared;
mod uplinks;
mod world;
