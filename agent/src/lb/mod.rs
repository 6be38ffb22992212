//! From the index to what this node wants: pure decisions, no I/O, no clock.

mod balancer;
mod categorize;
mod claims;
mod health_check;
mod host_ports;
mod maglev;
mod node_ports;
mod own_addresses;
mod per_packet;
mod port_name;
mod ports;
mod service_ranges;
mod wanted;

pub use balancer::{Balancer, Conflict, Decision};
pub use categorize::{Candidate, Categories, NodeInfo, Policies, categorize};
pub use claims::{Age, Claims};
pub use health_check::{HealthCheck, health_check};
pub use host_ports::host_ports;
pub use maglev::table;
pub use node_ports::NodePortAddresses;
pub use own_addresses::{Assigned, Origins, OwnAddresses};
pub use per_packet::per_packet;
pub use port_name::PortName;
pub use ports::wanted;
pub use service_ranges::service_ranges;
pub use wanted::{Family, Frontend, Set, WantedPort};
