//! The harness of the tests that need a kernel: packets in and out of a program, network namespaces that make up
//! nodes and pods, and the processes that live in them.
#![expect(clippy::expect_used, clippy::panic, reason = "a harness that is used wrongly should say where, at once")]

pub mod packet;
pub mod test_run;
pub mod view;
