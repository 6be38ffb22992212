//! What an agent tells of itself and of a cluster's objects: to probes, load balancers and Prometheus over HTTP, as bytes on the
//! wire, and to the owners of objects as Events.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![expect(unreachable_pub, reason = "modules of one test")]

mod cluster;

mod events;
mod health_checks;
mod metrics;
