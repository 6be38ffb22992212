//! Wanted ports, in few words.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use millrace_agent::{
    lb::{Family, Frontend, PortName, Set, WantedPort},
    model::{Algorithm, Protocol, ServiceKey},
};
use millrace_common::{frontend::FrontendKind, service::Attributes};

pub fn key(name: &str) -> ServiceKey {
    ServiceKey::new("shop", name)
}

/// `10.0.SERVICE.HOST:8080` for each host.
pub fn endpoints(service: u8, hosts: &[u8]) -> Vec<SocketAddr> {
    hosts.iter().map(|host| SocketAddr::new(Ipv4Addr::new(10, 0, service, *host).into(), 8080)).collect()
}

pub fn set(service: u8, hosts: &[u8]) -> Set {
    if hosts.is_empty() { Set::Reject } else { Set::Endpoints(endpoints(service, hosts)) }
}

pub fn frontend(service: u8) -> Frontend {
    Frontend { address: IpAddr::from([10, 96, 0, service]), port: 80, protocol: Protocol::Tcp }
}

/// The port `http` of `shop/sSERVICE` with the ClusterIP 10.96.0.SERVICE.
pub fn port(service: u8, hosts: &[u8]) -> WantedPort {
    WantedPort {
        name: PortName {
            service: key(&format!("s{service}")),
            port: "http".into(),
            protocol: Protocol::Tcp,
            family: Family::V4,
        },
        frontends: BTreeMap::from([(frontend(service), FrontendKind::ClusterIp)]),
        cluster: set(service, hosts),
        local: Set::Unused,
        serving: endpoints(service, hosts),
        algorithm: Algorithm::Random,
        attributes: Attributes::default(),
        source_ranges: BTreeSet::new(),
    }
}
