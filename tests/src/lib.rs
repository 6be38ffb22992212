//! The harness of the tests that need a kernel: packets in and out of a program, network namespaces that make up
//! nodes and pods, and the processes that live in them.
//!
//! ```text
//! packet, test_run       one packet through one program
//! repeat                 one program, again and again, as fast as the kernel runs it
//! netns, place, bpffs    what a node is made of
//! pod, node, network     nodes that reach each other
//! cable                  a veth that behaves like a wire
//! agent, manifests       the product on a node, and what it is told
//! interrupt              how the demo and the benchmarks end early, in order
//! http                   what the agent answers to those who ask about the node
//! probe, client, wire    who talks in them, and what is seen on the wire
//! listen, crowd          who listens at one address only; clients that never stop
//! linger, stall          programs and threads that take their time
//! bpf, xdp_pass          programs of the harness's own; somebody else's XDP program
//! ```
#![expect(clippy::expect_used, clippy::panic, reason = "a harness that is used wrongly should say where, at once")]

mod bpf;
pub mod packet;
pub mod repeat;
pub mod test_run;

pub mod bpffs;
pub mod cable;
pub mod netns;
pub mod place;

pub mod address;
pub mod network;
pub mod node;
pub mod pod;

pub mod agent;
pub mod manifests;
pub mod mark;

pub mod client;
pub mod crowd;
pub mod http;
pub mod interrupt;
pub mod linger;
pub mod listen;
pub mod probe;
pub mod stall;
pub mod wire;
pub mod xdp_pass;

pub mod apiserver;
pub mod told;
pub mod view;
