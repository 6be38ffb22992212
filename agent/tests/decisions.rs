//! What a node wants, from the index: claims, the node's own addresses, and how little a change makes dirty.
#![expect(clippy::expect_used, reason = "a test ends at what it did not expect")]

use std::{collections::BTreeSet, sync::Arc};

use millrace_agent::{
    lb::{Balancer, Decision, Frontend, NodeInfo, Set},
    model::{
        Algorithm, Endpoint, EndpointSlice, Index, Policy, Protocol, Service, ServiceKey, ServicePort, SliceKey,
        SlicePort, Topology,
    },
    watch::Change,
};
use millrace_common::service::Attributes;

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("shop", name)
}

fn service(name: &str, created: i64, ip: &str) -> Service {
    Service {
        key: key(name),
        created,
        cluster_ips: [ip.parse().expect("an address")].into(),
        external_ips: Box::default(),
        load_balancer_vips: Box::default(),
        source_ranges: Box::default(),
        ports: [ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: 0 }].into(),
        internal_policy: Policy::Cluster,
        external_policy: Policy::Cluster,
        algorithm: Algorithm::Random,
        affinity_seconds: None,
        health_check_port: 0,
    }
}

fn put(service: Service) -> Change {
    Change::Service(service.key.clone(), Some(Box::new(service)))
}

fn endpoint(ip: &str) -> Endpoint {
    Endpoint {
        address: ip.parse().expect("an address"),
        ready: true,
        serving: true,
        terminating: false,
        topology: None,
    }
}

fn slice(service: &str, name: &str, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        key: SliceKey::new("shop", name),
        service: key(service),
        ports: [SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }].into(),
        endpoints: endpoints.into(),
        triggered: None,
    }
}

fn put_slice(slice: EndpointSlice) -> Change {
    Change::EndpointSlice(slice.key.clone(), Some(Box::new(slice)))
}

#[derive(Default)]
struct Node {
    index: Index,
    balancer: Balancer,
}

impl Node {
    /// What is decided because of the change.
    fn decide(&mut self, change: Change) -> Vec<(String, Decision)> {
        let dirty = self.index.apply(change).services;
        let decisions = self.balancer.decide(&self.index, dirty);
        decisions.into_iter().map(|(key, decision)| (key.to_string(), decision)).collect()
    }

    fn frontends(&mut self, name: &str) -> Vec<Frontend> {
        let decisions = self.balancer.decide(&self.index, [key(name)].into());
        decisions[&key(name)].ports.iter().flat_map(|port| port.frontends.keys().copied()).collect()
    }
}

#[test]
fn the_older_service_has_a_frontend_that_two_name_whoever_comes_first() {
    let (old, young) = (service("old", 1, "10.96.0.1"), service("young", 2, "10.96.0.1"));
    for order in [[&old, &young], [&young, &old]] {
        let mut node = Node::default();
        for service in order {
            node.decide(put(service.clone()));
        }
        assert_eq!(node.frontends("old").len(), 1);
        assert_eq!(node.frontends("young").len(), 0);
    }
}

#[test]
fn the_loser_is_told_who_has_its_frontend_and_keeps_its_others() {
    let mut node = Node::default();
    node.decide(put(service("old", 1, "10.96.0.1")));
    let mut young = service("young", 2, "10.96.0.1");
    young.external_ips = ["198.51.100.1".parse().expect("an address")].into();
    let decisions = node.decide(put(young));
    assert_eq!(decisions.len(), 1, "the holder is not decided anew");
    let (_, decision) = &decisions[0];
    assert_eq!(
        decision.conflicts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "10.96.0.1:80/TCP belongs to shop/old, which comes first (a Service before a host port, the older of two, or the \
             first by name); give one of them another address or port"
        ]
    );
    assert_eq!(node.frontends("young")[0].address.to_string(), "198.51.100.1");
}

#[test]
fn an_older_service_that_comes_late_takes_its_frontend_and_an_heir_gets_it_when_it_goes() {
    let mut node = Node::default();
    node.decide(put(service("young", 5, "10.96.0.1")));
    node.decide(put(service("younger", 6, "10.96.0.1")));
    let decided = |decisions: Vec<(String, Decision)>| -> Vec<String> {
        decisions.into_iter().map(|(name, decision)| format!("{name}: {} port(s)", decision.ports.len())).collect()
    };
    let late = node.decide(put(service("old", 1, "10.96.0.1")));
    assert_eq!(decided(late), ["shop/old: 1 port(s)", "shop/young: 0 port(s)"]);
    let gone = node.decide(Change::Service(key("old"), None));
    assert_eq!(decided(gone), ["shop/old: 0 port(s)", "shop/young: 1 port(s)"]);
    let moved = node.decide(put(service("young", 5, "10.96.0.2")));
    assert_eq!(decided(moved), ["shop/young: 1 port(s)", "shop/younger: 1 port(s)"]);
}

#[test]
fn of_services_of_one_age_the_name_decides_and_one_without_an_age_is_the_youngest() {
    let mut node = Node::default();
    node.decide(put(service("a-ageless", 0, "10.96.0.1")));
    node.decide(put(service("c", 1, "10.96.0.1")));
    node.decide(put(service("b", 1, "10.96.0.1")));
    let holders: Vec<&str> =
        ["a-ageless", "b", "c"].into_iter().filter(|name| !node.frontends(name).is_empty()).collect();
    assert_eq!(holders, ["b"]);
}

#[test]
fn a_frontend_whose_address_is_the_nodes_own_is_left_to_the_node_and_named() {
    let mut node = Node::default();
    node.decide(put(service("dns", 1, "10.96.0.10")));
    let own = "10.96.0.10".parse().expect("an address");
    node.balancer.set_node(NodeInfo { addresses: [own].into(), ..NodeInfo::default() });
    assert_eq!(node.frontends("dns"), []);
    let decisions = node.balancer.decide(&node.index, [key("dns")].into());
    assert_eq!(decisions[&key("dns")].of_the_node, [own].into());
}

#[test]
fn what_has_not_changed_makes_nothing_dirty() {
    let mut node = Node::default();
    let cart = put(service("cart", 1, "10.96.0.1"));
    let endpoints = put_slice(slice("cart", "cart-1", vec![endpoint("10.0.0.1")]));
    assert_eq!(node.decide(cart.clone()).len(), 1);
    assert_eq!(node.decide(endpoints.clone()).len(), 1);
    assert_eq!(node.decide(cart).len(), 0);
    assert_eq!(node.decide(endpoints).len(), 0);
    let mut later = slice("cart", "cart-1", vec![endpoint("10.0.0.1")]);
    later.triggered = Some(1);
    assert_eq!(node.decide(put_slice(later)).len(), 0, "when it was asked for decides nothing");
    assert_eq!(node.decide(Change::Service(key("unknown"), None)).len(), 0);
}

#[test]
fn a_slice_that_moves_to_another_service_leaves_the_first() {
    let mut node = Node::default();
    node.decide(put(service("a", 1, "10.96.0.1")));
    node.decide(put(service("b", 1, "10.96.0.2")));
    node.decide(put_slice(slice("a", "x", vec![endpoint("10.0.0.1")])));
    let decisions = node.decide(put_slice(slice("b", "x", vec![endpoint("10.0.0.1")])));
    let sets: Vec<&Set> = decisions.iter().map(|(_, decision)| &decision.ports[0].cluster).collect();
    assert!(matches!(sets[..], [Set::Reject, Set::Endpoints(_)]), "{sets:?}");
}

#[test]
fn of_one_address_in_two_slices_the_one_that_does_not_terminate_wins() {
    let ending = Endpoint { ready: false, terminating: true, ..endpoint("10.0.0.1") };
    for (one, two) in [(ending.clone(), endpoint("10.0.0.1")), (endpoint("10.0.0.1"), ending)] {
        let mut node = Node::default();
        node.decide(put_slice(slice("cart", "cart-1", vec![one])));
        node.decide(put_slice(slice("cart", "cart-2", vec![two, endpoint("10.0.0.2")])));
        let decisions = node.decide(put(service("cart", 1, "10.96.0.1")));
        let Set::Endpoints(endpoints) = &decisions[0].1.ports[0].cluster else { unreachable!("{decisions:?}") };
        assert_eq!(endpoints.len(), 2, "it is ready: {endpoints:?}");
    }
}

#[test]
fn source_ranges_guard_only_the_family_that_they_are_of() {
    let mut node = Node::default();
    let mut both = service("both", 1, "10.96.0.1");
    both.cluster_ips = ["10.96.0.1", "fd00::1"].map(|ip| ip.parse().expect("an address")).into();
    both.source_ranges = ["10.0.0.0/8".parse().expect("a range")].into();
    let decisions = node.decide(put(both));
    let guarded: Vec<bool> =
        decisions[0].1.ports.iter().map(|port| port.attributes.has(Attributes::SOURCE_RANGES)).collect();
    assert_eq!(guarded, [true, false]);
}

#[test]
fn names_of_nodes_and_zones_and_ports_are_kept_once() {
    let mut node = Node::default();
    let somewhere = || Endpoint {
        topology: Some(Arc::new(Topology {
            node: Some("n7".into()),
            zones: ["a".into()].into(),
            ..Topology::default()
        })),
        ..endpoint("10.0.0.1")
    };
    node.decide(put_slice(slice("a", "x", vec![somewhere()])));
    node.decide(put_slice(slice("b", "y", vec![somewhere()])));
    let held = |service| {
        let slice = &node.index.slices(&key(service))[0];
        (slice.endpoints[0].topology.as_ref().map(Arc::as_ptr), slice.ports.as_ptr())
    };
    assert_eq!(held("a"), held("b"));
    assert_eq!(BTreeSet::from([held("a"), held("b")]).len(), 1);
}

#[test]
fn a_node_port_is_on_the_nodes_addresses_of_the_services_families() {
    let mut node = Node::default();
    let addresses = ["127.0.0.1", "10.0.0.1", "172.17.0.1", "fd00::1"].map(|ip| ip.parse().expect("an address"));
    node.balancer.set_node(NodeInfo { addresses: addresses.into(), ..NodeInfo::default() });
    let mut cart = service("cart", 1, "10.96.0.1");
    cart.ports = [ServicePort { node_port: 30_080, ..cart.ports[0].clone() }].into();
    let decisions = node.decide(put(cart));
    let frontends: Vec<String> = (decisions[0].1.ports.iter())
        .flat_map(|port| port.frontends.iter().map(|(frontend, kind)| format!("{} {frontend}", kind.name())))
        .collect();
    assert_eq!(
        frontends,
        ["NodePort 10.0.0.1:30080/TCP", "ClusterIP 10.96.0.1:80/TCP", "NodePort 172.17.0.1:30080/TCP"]
    );
}
