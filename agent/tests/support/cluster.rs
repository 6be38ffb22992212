//! Objects that change at random.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use millrace_agent::{
    model::{
        Algorithm, Endpoint, EndpointSlice, Policy, Protocol, Service, ServiceKey, ServicePort, SliceKey, SlicePort,
        Topology,
    },
    watch::Change,
};

use super::Random;

/// What exists now.
#[derive(Default)]
pub struct Cluster {
    pub services: BTreeMap<ServiceKey, Service>,
    pub slices: BTreeMap<SliceKey, EndpointSlice>,
    /// Services that can exist.
    pub names: usize,
}

impl Cluster {
    pub fn new(names: usize) -> Self {
        Self { names, ..Self::default() }
    }

    /// One thing happens.
    pub fn step(&mut self, random: &mut Random) -> Change {
        let at = random.below(self.names);
        match random.below(10) {
            0 => {
                let key = service_key(at);
                self.services.remove(&key);
                Change::Service(key, None)
            }
            1..4 => {
                let service = service(at, random);
                self.services.insert(service.key.clone(), service.clone());
                Change::Service(service.key.clone(), Some(Box::new(service)))
            }
            4 => {
                let key = SliceKey::new("shop", &format!("s{at}-{}", random.below(3)));
                self.slices.remove(&key);
                Change::EndpointSlice(key, None)
            }
            _ => {
                let slice = slice(at, random.below(3), random);
                self.slices.insert(slice.key.clone(), slice.clone());
                Change::EndpointSlice(slice.key.clone(), Some(Box::new(slice)))
            }
        }
    }

    /// Everything that exists, as a source that starts would tell it.
    pub fn changes(&self) -> Vec<Change> {
        let services =
            self.services.iter().map(|(key, service)| Change::Service(key.clone(), Some(Box::new(service.clone()))));
        let slices =
            self.slices.iter().map(|(key, slice)| Change::EndpointSlice(key.clone(), Some(Box::new(slice.clone()))));
        services.chain(slices).collect()
    }

    /// The end of everything.
    pub fn clear(&mut self) -> Vec<Change> {
        let services = std::mem::take(&mut self.services).into_keys().map(|key| Change::Service(key, None));
        let slices = std::mem::take(&mut self.slices).into_keys().map(|key| Change::EndpointSlice(key, None));
        services.chain(slices).collect()
    }
}

pub fn service_key(at: usize) -> ServiceKey {
    ServiceKey::new("shop", &format!("s{at}"))
}

fn v4(a: u8, b: u8, c: usize, d: usize) -> IpAddr {
    Ipv4Addr::new(a, b, c as u8, d as u8).into()
}

fn v6(group: u16, c: usize, d: usize) -> IpAddr {
    Ipv6Addr::new(0xfd00, group, 0, 0, 0, 0, c as u16, d as u16).into()
}

fn service(at: usize, random: &mut Random) -> Service {
    // A pool of addresses smaller than the number of services: some are claimed twice.
    let address = if random.once_in(4) { random.below(4) } else { at + 10 };
    let mut cluster_ips = vec![v4(10, 96, 0, address)];
    if random.once_in(3) {
        cluster_ips.push(v6(96, 0, address));
    }
    let some = |random: &mut Random, group: u8| match random.below(6) {
        0 => vec![v4(198, 51, group as usize, random.below(3))],
        1 => vec![v6(u16::from(group), 1, random.below(3)), v4(198, 51, group as usize, random.below(3))],
        _ => vec![],
    };
    let policy = |random: &mut Random| if random.once_in(4) { Policy::Local } else { Policy::Cluster };
    // Some ask for one node port.
    let node_port = if random.once_in(4) { 30_000 + random.below(5) as u16 } else { 0 };
    let port = |name: &str, protocol, port| {
        // One node port over two protocols, another one for another port.
        let node_port = if node_port != 0 && port == 81 { node_port + 5 } else { node_port };
        ServicePort { name: name.into(), protocol, port, node_port }
    };
    let ranges = ["10.0.0.0/8", "10.0.0.0/24", "198.18.0.0/15", "fd00::/16"];
    let ranges = ranges.into_iter().filter(|_| random.once_in(8)).filter_map(|range| range.parse().ok()).collect();
    let ports = match random.below(6) {
        0 => vec![port("web", Protocol::Tcp, 80)],
        1 => vec![port("http", Protocol::Tcp, 80), port("dns", Protocol::Udp, 53)],
        2 => vec![port("http", Protocol::Tcp, 80), port("admin", Protocol::Tcp, 81)],
        3 => vec![port("http", Protocol::Tcp, 8080)],
        _ => vec![port("http", Protocol::Tcp, 80)],
    };
    Service {
        key: service_key(at),
        created: random.below(3) as i64,
        cluster_ips: cluster_ips.into(),
        external_ips: some(random, 100).into(),
        load_balancer_vips: some(random, 101).into(),
        source_ranges: ranges,
        ports: ports.into(),
        internal_policy: policy(random),
        external_policy: policy(random),
        algorithm: if random.once_in(12) { Algorithm::Maglev } else { Algorithm::Random },
        affinity_seconds: random.once_in(5).then_some(10_800),
        health_check_port: 0,
    }
}

/// The endpoints of a service lie in a network of its own: an address tells whose it is.
fn slice(at: usize, part: usize, random: &mut Random) -> EndpointSlice {
    let six = part == 2;
    // All services of a third are hinted by zone, or by node, as a rule: one endpoint without a hint makes them all void.
    let hints = if random.once_in(12) { random.below(3) } else { at % 3 };
    let one_of = |random: &mut Random, names: [&str; 2]| match random.below(5) {
        0 => names.map(Into::into).into(),
        other => [names[other % 2].into()].into(),
    };
    let topology = |random: &mut Random| Topology {
        node: Some(["n1", "n2"][random.below(2)].into()),
        zones: if hints == 1 { one_of(random, ["a", "b"]) } else { Box::default() },
        nodes: if hints == 2 { one_of(random, ["n1", "n2"]) } else { Box::default() },
    };
    let endpoint = |random: &mut Random| {
        let host = random.below(8) + 1;
        let terminating = random.once_in(4);
        let ready = !terminating && !random.once_in(5);
        Endpoint {
            address: if six { v6(0x10, at, host) } else { v4(10, 10, at, host) },
            topology: Some(Arc::new(topology(random))),
            ready,
            serving: ready || random.once_in(2),
            terminating,
        }
    };
    let count = [0, 1, 1, 3, 5][random.below(5)];
    let endpoints = (0..count).map(|_| endpoint(random)).collect();
    let port = |name: &str, protocol, port| SlicePort { name: name.into(), protocol, port };
    EndpointSlice {
        key: SliceKey::new("shop", &format!("s{at}-{part}")),
        service: service_key(at),
        ports: [
            port("http", Protocol::Tcp, 8080),
            port("web", Protocol::Tcp, 8080),
            port("admin", Protocol::Tcp, 8081),
            port("dns", Protocol::Udp, 5353),
        ]
        .into(),
        endpoints,
        triggered: None,
    }
}
