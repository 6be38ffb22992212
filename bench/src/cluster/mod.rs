//! The cluster that is measured: N services of one family or both, 10 endpoints each in every family. Pure.
//!
//! `objects` is what the API server gives to millrace, `told` what the rivals are told: the same services.

pub mod objects;
pub mod told;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use millrace_agent::lb::Family;
use millrace_tests::address::in_family;

/// Numbers of services that are measured unless others are asked for: what is said of every size is said of these.
pub const SIZES: [u32; 7] = [1, 10, 100, 1000, 10_000, 30_000, 100_000];
/// Endpoints of every service.
pub const ENDPOINTS: u32 = 10;
pub const NAMESPACE: &str = "bench";
/// The services' port; their target is [`TARGET_PORT`].
pub const PORT: u16 = 80;
pub const TARGET_PORT: u16 = 8080;
/// Ranges of the pods' addresses.
pub const POD_CIDRS: [&str; 2] = ["192.168.0.0/16", "fd00:192:168::/48"];
/// Ranges of the ClusterIPs.
pub const SERVICE_CIDRS: [&str; 2] = ["10.96.0.0/12", "fd00:96::/108"];

/// Address families of all services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
pub enum Families {
    #[value(name = "4")]
    #[serde(rename = "4")]
    V4,
    #[value(name = "6")]
    #[serde(rename = "6")]
    V6,
    #[serde(rename = "dual")]
    Dual,
}

impl Families {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "4",
            Self::V6 => "6",
            Self::Dual => "dual",
        }
    }

    /// As [`service`] and the rest take them.
    pub const fn each(self) -> &'static [Family] {
        match self {
            Self::V4 => &[Family::V4],
            Self::V6 => &[Family::V6],
            Self::Dual => &[Family::V4, Family::V6],
        }
    }
}

/// Who calls the services, and where their endpoints are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clients {
    /// Pods, at ClusterIPs; the endpoints are on the same node.
    #[default]
    Pods,
    /// Clients outside, at node ports; the endpoints are on the node that they call.
    Outside,
    /// Clients outside, at node ports; the endpoints are on another node than the one that they call.
    Through,
}

impl Clients {
    /// The node with the proxy.
    #[must_use]
    pub const fn node(self) -> &'static str {
        "n1"
    }

    /// The node that the endpoints are on.
    #[must_use]
    pub const fn endpoints_node(self) -> &'static str {
        match self {
            Self::Pods | Self::Outside => self.node(),
            Self::Through => "n2",
        }
    }
}

/// Where a service stands among all: the order in which they are programmed decides what some rivals cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    First,
    Random,
    Last,
}

impl Position {
    pub const ALL: [Self; 3] = [Self::First, Self::Random, Self::Last];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Random => "random",
            Self::Last => "last",
        }
    }
}

/// N services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub services: u32,
    pub families: Families,
    pub clients: Clients,
}

/// Of the service that is called as the first.
const NODE_PORT: u16 = 30_080;

impl Cluster {
    /// The number of the service that clients call as the first, a random one or the last. Of one service all three are
    /// the same.
    #[must_use]
    pub fn at(&self, position: Position) -> u32 {
        let last = self.services.saturating_sub(1);
        match position {
            Position::First => 0,
            // Seeded: the same one in every run. Neither the first nor the last, where there is another.
            Position::Random if last > 1 => fastrand::Rng::with_seed(u64::from(last)).u32(1..last),
            Position::Random | Position::Last => last,
        }
    }

    /// Whether clients call service `i`: it has endpoints that answer, and a UDP port.
    #[must_use]
    pub fn is_measured(&self, i: u32) -> bool {
        Position::ALL.into_iter().any(|position| self.at(position) == i)
    }

    /// Of a service that clients outside call; 0: none.
    #[must_use]
    pub fn node_port(&self, i: u32) -> u16 {
        let place = Position::ALL.into_iter().position(|position| self.at(position) == i);
        place.filter(|_| self.clients != Clients::Pods).map_or(0, |place| NODE_PORT + place as u16)
    }

    #[must_use]
    pub fn endpoints_of(&self, i: u32, family: Family) -> Vec<IpAddr> {
        let v4 = if self.is_measured(i) { answering(ENDPOINTS) } else { absent_endpoints(i) };
        v4.into_iter().map(|v4| in_family(v4, family == Family::V6)).collect()
    }
}

/// The range of the addresses that the server pod answers to, a /24.
pub const ANSWERING: Ipv4Addr = Ipv4Addr::new(192, 168, 3, 0);

/// The first `count` of them, at most 250.
pub fn answering(count: u32) -> Vec<Ipv4Addr> {
    (1..=count).map(|k| Ipv4Addr::from(u32::from(ANSWERING) + k)).collect()
}

/// Name of service `i`, counted from 0.
pub fn name(i: u32) -> String {
    format!("s{i:06}")
}

/// ClusterIP of service `i`.
pub fn cluster_ip(i: u32, family: Family) -> IpAddr {
    // The first ones of a range are often taken.
    let host = i + 0x100;
    match family {
        Family::V4 => Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + host).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, (host >> 16) as u16, host as u16).into(),
    }
}

/// Addresses nobody has, for services that nobody calls: programming them costs the same.
pub fn absent_endpoints(i: u32) -> Vec<Ipv4Addr> {
    let first = u32::from(Ipv4Addr::new(100, 64, 0, 0)) + (i * ENDPOINTS) % (1 << 22);
    (0..ENDPOINTS).map(|k| Ipv4Addr::from(first + k)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ipnet::IpNet;

    use super::*;

    #[test]
    fn each_of_a_hundred_thousand_services_has_addresses_of_its_own_in_the_ranges() {
        let ranges: Vec<IpNet> = SERVICE_CIDRS.iter().map(|range| range.parse().unwrap()).collect();
        for (family, range) in Families::Dual.each().iter().zip(ranges) {
            let ips: BTreeSet<IpAddr> = (0..100_000).map(|i| cluster_ip(i, *family)).collect();
            assert_eq!(ips.len(), 100_000);
            assert!(ips.iter().all(|ip| range.contains(ip)), "{family:?}");
        }
        let endpoints: BTreeSet<Ipv4Addr> = (0..100_000).flat_map(absent_endpoints).collect();
        assert_eq!(endpoints.len(), 1_000_000);
    }
    #[test]
    fn clients_call_the_first_a_random_and_the_last_of_the_services() {
        for services in [3, 10, 30_000] {
            let cluster = Cluster { services, families: Families::V4, clients: Clients::Pods };
            let [first, random, last] = Position::ALL.map(|position| cluster.at(position));
            assert!(first == 0 && last == services - 1 && (1..last).contains(&random), "{random} of {services}");
            assert_eq!(random, cluster.at(Position::Random), "the same one in every run");
            assert_eq!((0..services).filter(|i| cluster.is_measured(*i)).count(), 3);
        }
        let one = Cluster { services: 1, families: Families::V4, clients: Clients::Outside };
        assert_eq!(Position::ALL.map(|position| one.at(position)), [0, 0, 0]);
        assert_eq!(one.node_port(0), NODE_PORT);
    }
}
