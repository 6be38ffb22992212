//! Packets in and out of the per-packet programs, through the kernel's BPF_PROG_TEST_RUN: what must come of each, for a
//! user behind it. Needs root and a kernel with BTF; nothing is attached anywhere.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails should say where, at once")]

mod rig;

mod another_port;
mod choice;
mod conversations;
mod errors;
mod fragments;
mod fuzz;
mod hairpin;
mod host_port;
mod limits;
mod maglev;
mod malformed;
mod nameless;
mod no_way;
mod race;
mod random;
mod refusal;
mod sctp;
mod source_ranges;
mod sweep;
mod translate;
mod uplink;
mod ways;
mod xdp;
