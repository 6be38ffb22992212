//! What millrace is measured against: kube-proxy's iptables, nftables and IPVS modes.
//!
//! kube-proxy itself is not run: it needs an API server. Instead each mode's rules are generated as its proxier lays
//! them out (each generator cites the source that it follows), and applied with the same tools in a network namespace.
//! Where kube-proxy does more work than is done here, the module says so: it always favours the rival.

mod catalog;
pub mod error;
mod hash;
pub mod iptables;
pub mod ipvs;
mod namespace;
pub mod nftables;
pub mod service;
mod text;
mod tools;
mod ways;

use std::time::Duration;

pub use error::Error;
pub use iptables::{Backend, Iptables};
pub use ipvs::Ipvs;
pub use namespace::Namespace;
pub use nftables::Nftables;
pub use service::{Endpoint, Family, Node, Protocol, Service, ServiceKey, ServicePort};
pub use tools::Tools;
pub use ways::{Part, Way};

/// `--*-min-sync-period` of every mode: kube-proxy waits up to this long before it acts on a change. No figure of a
/// rival includes it.
pub const MINIMUM_SYNC_PERIOD: Duration = Duration::from_secs(1);

/// One way to proxy services, set up in one network namespace.
pub trait Rival {
    /// As reports name it.
    fn name(&self) -> &'static str;

    /// What the tools say of themselves.
    ///
    /// # Errors
    /// They are not installed.
    fn version(&self) -> Result<String, Error>;

    /// Whether this kernel can do it.
    ///
    /// # Errors
    /// The tools are not installed.
    fn is_supported(&self) -> Result<bool, Error> {
        Ok(true)
    }

    /// Makes these the services, all of them: a full sync.
    ///
    /// # Errors
    /// What the tools say.
    fn program(&mut self, services: Vec<Service>) -> Result<(), Error>;

    /// Where the time of the last [`Rival::program`] went; empty where there is only one way into the kernel.
    fn parts(&self) -> &[Part] {
        &[]
    }

    /// Adds a service or replaces the one with the same key, by the least that kube-proxy can do (a partial sync).
    ///
    /// # Errors
    /// What the tools say.
    fn change(&mut self, service: Service) -> Result<(), Error>;

    /// Takes a service away; an unknown one is no error.
    ///
    /// # Errors
    /// What the tools say.
    fn remove(&mut self, key: &ServiceKey) -> Result<(), Error>;

    /// Takes everything of this rival out of the namespace; done twice it is no error.
    ///
    /// # Errors
    /// What the tools say.
    fn cleanup(&mut self) -> Result<(), Error>;
}
