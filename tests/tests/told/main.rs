//! What an agent tells of itself: to probes, load balancers and Prometheus, as bytes on the wire.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![expect(unreachable_pub, reason = "modules of one test")]

mod cluster;

mod health_checks;
mod metrics;
