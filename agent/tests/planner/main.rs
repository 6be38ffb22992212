//! What a plan says: which operations, in which order, and no others.

#[path = "../support/mod.rs"]
mod support;

mod node;
mod ownership;
mod plans;
mod random;
mod source_ranges;
