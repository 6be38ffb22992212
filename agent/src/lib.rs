//! The DaemonSet's agent. The modules stand in the order that data flows through them; `app` joins them in this
//! order:
//!
//! ```text
//! watch -> model -> lb -> diff -> datapath
//! ```
//!
//! `model`, `lb` and `diff` are pure: no tokio, no aya, no clock. Only `watch` and `model::*::from_resource` see
//! Kubernetes types, only `datapath` sees aya.

pub mod watch;

pub mod model;

pub mod lb;

pub mod diff;

pub mod datapath;

pub mod migrate;

pub mod health;

pub mod http;

pub mod metrics;

pub mod app;

pub mod cli;
