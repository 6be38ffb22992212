//! A simulated cluster as the API server would show it: services whose pods are spread over the nodes of three zones,
//! and the EndpointSlices that lead to them. Pure.

use std::net::Ipv4Addr;

use fastrand::Rng;
use serde_json::{Value, json};

pub(super) const NAMESPACE: &str = "scale";
pub(super) const ZONES: [&str; 3] = ["a", "b", "c"];
/// The node that the figures are taken on.
pub(super) const NODE: &str = "n0";
/// `--max-endpoints-per-slice` of the controller, by default.
const PER_SLICE: usize = 100;

/// How large a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Size {
    pub nodes: u32,
    pub services: u32,
    pub shape: Shape,
}

/// Services are as large, in this order, over and over.
const PATTERN: u32 = 100;

/// How its pods are spread over the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Shape {
    /// Many services are small and a few are large; fifteen pods each on average.
    Mixed,
    /// Every service has as many.
    Even(usize),
}

impl Shape {
    const fn pods_of(self, service: u32) -> usize {
        match (self, service % PATTERN) {
            (Self::Even(pods), _) => pods,
            (Self::Mixed, 0) => 330,
            (Self::Mixed, 1..10) => 50,
            (Self::Mixed, _) => 8,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Starting,
    Ready,
    /// Serves on until it ends.
    Terminating,
    /// Its node does not answer.
    Lost,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Pod {
    address: Ipv4Addr,
    node: u32,
    pub(super) state: State,
}

impl Pod {
    pub(super) fn zone(&self) -> usize {
        self.node as usize % ZONES.len()
    }
}

/// Where a slice is: service and number.
pub(super) type SliceId = (u32, usize);

pub(super) struct Cluster {
    pub(super) size: Size,
    /// Pods by service and slice.
    services: Vec<Vec<Vec<Pod>>>,
    random: Rng,
    pods_ever: u32,
}

impl Cluster {
    pub(super) fn new(size: Size, seed: u64) -> Self {
        let mut cluster = Self { size, services: Vec::new(), random: Rng::with_seed(seed), pods_ever: 0 };
        for service in 0..size.services {
            let pods: Vec<Pod> = (0..size.shape.pods_of(service)).map(|_| cluster.pod(State::Ready)).collect();
            cluster.services.push(pods.chunks(PER_SLICE).map(<[Pod]>::to_vec).collect());
        }
        cluster
    }

    fn pod(&mut self, state: State) -> Pod {
        self.pods_ever += 1;
        // 100.64.0.0/10 has four million addresses; none is used again before the others were.
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 0)) + self.pods_ever % (1 << 22));
        Pod { address, node: self.random.u32(0..self.size.nodes), state }
    }

    pub(super) fn pods(&self) -> usize {
        self.services.iter().flatten().map(Vec::len).sum()
    }

    pub(super) fn slices(&self) -> Vec<SliceId> {
        let numbers = |(service, slices): (u32, &Vec<Vec<Pod>>)| (0..slices.len()).map(move |number| (service, number));
        (0..).zip(&self.services).flat_map(numbers).collect()
    }

    /// The slices of as many services as there are of different sizes, or of all where they are fewer: the same in clusters of
    /// any size.
    pub(super) fn pattern(&self) -> Vec<SliceId> {
        self.slices().into_iter().filter(|(service, _)| *service < PATTERN).collect()
    }

    /// How often the pattern is there in full, at least once.
    pub(super) fn repetitions(&self) -> u32 {
        (self.size.services / PATTERN).max(1)
    }

    /// What is in this place of the pattern, in one of its repetitions.
    pub(super) const fn repeated((service, number): SliceId, repetition: u32) -> SliceId {
        (service + repetition * PATTERN, number)
    }

    pub(super) fn slice_mut(&mut self, (service, number): SliceId) -> Option<&mut Vec<Pod>> {
        self.services.get_mut(service as usize)?.get_mut(number)
    }

    /// A new pod of the slice's service, which does not answer yet.
    pub(super) fn add_pod(&mut self, slice: SliceId) {
        let pod = self.pod(State::Starting);
        if let Some(pods) = self.slice_mut(slice) {
            pods.push(pod);
        }
    }

    /// The Service's object.
    pub(super) fn service(&self, service: u32) -> Value {
        let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 1, 0)) + service);
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name(service), "namespace": NAMESPACE },
            "spec": {
                "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
                "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080 }],
            },
        })
    }

    /// The slice's object.
    pub(super) fn slice(&self, (service, number): SliceId) -> Value {
        let pods = self.services.get(service as usize).and_then(|slices| slices.get(number));
        let endpoint = |pod: &Pod| {
            let ready = pod.state == State::Ready;
            json!({
                "addresses": [pod.address],
                "conditions": {
                    "ready": ready,
                    "serving": ready || pod.state == State::Terminating,
                    "terminating": pod.state == State::Terminating,
                },
                "nodeName": format!("n{}", pod.node),
                "zone": ZONES[pod.zone()],
            })
        };
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{}-{number}", name(service)),
                "namespace": NAMESPACE,
                "labels": { "kubernetes.io/service-name": name(service) },
            },
            "addressType": "IPv4",
            "endpoints": pods.into_iter().flatten().map(endpoint).collect::<Vec<_>>(),
            "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }],
        })
    }
}

fn name(service: u32) -> String {
    format!("s{service:05}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_large_cluster_has_fifteen_pods_a_service_and_no_slice_is_too_long() {
        let mut cluster = Cluster::new(Size { nodes: 500, services: 1000, shape: Shape::Mixed }, 1);
        assert_eq!(cluster.pods(), 15_000);
        for id in cluster.slices() {
            assert!((1..=PER_SLICE).contains(&cluster.slice_mut(id).unwrap().len()), "{id:?}");
        }
    }
}
