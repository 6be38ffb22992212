//! Who may serve a client on this node, in clusters made up at random: Kubernetes objects in, decisions out, against the
//! rules once more, in the plainest words that a user could have them in.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends at what it did not expect")]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use millrace_agent::{
    lb::{Balancer, Family, NodeInfo, Set, WantedPort},
    model::{EndpointSlice, Index, Service},
    watch::Change,
};
use millrace_common::{
    frontend::FrontendKind,
    service::{inside_uses_local, outside_uses_local},
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{select, subsequence},
    test_runner::TestRunner,
};
use serde_json::{Value, json};

const HERE: &str = "n1";
const NODES: [&str; 3] = [HERE, "n2", "n3"];
const ZONES: [&str; 3] = ["a", "b", "c"];
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// As a slice writes them; `None` is left out.
#[derive(Clone, Copy, Debug)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Clone, Debug)]
struct Endpoint {
    node: Option<&'static str>,
    conditions: Conditions,
    /// The same address in another slice, too, of which one terminates and the other does not.
    copy: Option<Conditions>,
    zones: Vec<&'static str>,
    nodes: Vec<&'static str>,
}

#[derive(Clone, Debug)]
struct Scene {
    zone: Option<&'static str>,
    internal_local: bool,
    external_local: bool,
    /// Has a node port and a load balancer's VIP.
    reachable: bool,
    /// Those of IPv4, then those of IPv6: each family is complete by itself.
    endpoints: [Vec<Endpoint>; 2],
    slices: usize,
}

/// What a client meets.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Served(BTreeSet<usize>),
    Refused,
    Silence,
}

// ---- The rules. ----

fn is_ready(conditions: &Conditions) -> bool {
    conditions.ready != Some(false)
}

fn terminates(conditions: &Conditions) -> bool {
    conditions.terminating == Some(true)
}

/// It will end, and still answers.
fn is_draining(conditions: &Conditions) -> bool {
    terminates(conditions) && conditions.serving != Some(false)
}

/// Of two entries for one address the one that does not terminate counts.
fn in_force(endpoint: &Endpoint) -> Conditions {
    match endpoint.copy {
        Some(copy) if terminates(&endpoint.conditions) => copy,
        _ => endpoint.conditions,
    }
}

impl Scene {
    fn fate(&self, family: Family, local: bool) -> (Fate, &'static str) {
        let all = &self.endpoints[usize::from(family == Family::V6)];
        let numbers = |keep: &dyn Fn(&Endpoint, &Conditions) -> bool| -> BTreeSet<usize> {
            (0..all.len()).filter(|at| keep(&all[*at], &in_force(&all[*at]))).collect()
        };
        let ready = numbers(&|_, now| is_ready(now));
        let draining = numbers(&|_, now| is_draining(now));
        let (chosen, why) = if local {
            let here = numbers(&|endpoint, _| endpoint.node == Some(HERE));
            let ready_here: BTreeSet<_> = ready.intersection(&here).copied().collect();
            if ready_here.is_empty() {
                (draining.intersection(&here).copied().collect(), "draining here")
            } else {
                (ready_here, "ready here")
            }
        } else if ready.is_empty() {
            (draining.clone(), "draining anywhere")
        } else {
            let for_here = numbers(&|endpoint, now| is_ready(now) && endpoint.nodes.contains(&HERE));
            let for_zone =
                numbers(&|endpoint, now| is_ready(now) && self.zone.is_some_and(|zone| endpoint.zones.contains(&zone)));
            let every_ready = |has: &dyn Fn(&Endpoint) -> bool| ready.iter().all(|at| has(&all[*at]));
            if every_ready(&|endpoint| !endpoint.nodes.is_empty()) && !for_here.is_empty() {
                (for_here, "hinted for the node")
            } else if every_ready(&|endpoint| !endpoint.zones.is_empty()) && !for_zone.is_empty() {
                (for_zone, "hinted for the zone")
            } else {
                (ready.clone(), "ready anywhere")
            }
        };
        if !chosen.is_empty() {
            (Fate::Served(chosen), why)
        } else if ready.is_empty() && draining.is_empty() {
            (Fate::Refused, "refused")
        } else {
            (Fate::Silence, "silence")
        }
    }
}

// ---- The objects. ----

fn address(family: Family, at: usize) -> String {
    match family {
        Family::V4 => format!("10.1.0.{}", at + 1),
        Family::V6 => format!("fd00:1::{:x}", at + 1),
    }
}

fn service(scene: &Scene) -> Value {
    let policy = |local| if local { "Local" } else { "Cluster" };
    let mut service = json!({
        "metadata": {"namespace": "shop", "name": "cart"},
        "spec": {
            "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00:96::1"],
            "ports": [{"name": "http", "port": 80}],
            "internalTrafficPolicy": policy(scene.internal_local),
        },
    });
    if scene.reachable {
        service["spec"]["type"] = json!("LoadBalancer");
        service["spec"]["ports"][0]["nodePort"] = json!(30_080);
        service["spec"]["externalTrafficPolicy"] = json!(policy(scene.external_local));
        let ingress = ["198.51.100.1", "2001:db8::1"].map(|ip| json!({"ip": ip}));
        service["status"] = json!({"loadBalancer": {"ingress": ingress}});
    }
    service
}

fn written(endpoint: &Endpoint, conditions: Conditions, address: &str) -> Value {
    let hint = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
    let mut value = json!({"addresses": [address], "conditions": {}});
    let Conditions { ready, serving, terminating } = conditions;
    for (name, condition) in [("ready", ready), ("serving", serving), ("terminating", terminating)] {
        if let Some(condition) = condition {
            value["conditions"][name] = json!(condition);
        }
    }
    if let Some(node) = endpoint.node {
        value["nodeName"] = json!(node);
    }
    for (field, names) in [("forZones", &endpoint.zones), ("forNodes", &endpoint.nodes)] {
        if !names.is_empty() {
            value["hints"][field] = hint(names).into();
        }
    }
    value
}

/// Endpoints are dealt out to the slices in turn; copies go to the next one.
fn slices(scene: &Scene) -> Vec<Value> {
    let mut slices = Vec::new();
    for (family, endpoints) in FAMILIES.into_iter().zip(&scene.endpoints) {
        let mut parts = vec![Vec::new(); scene.slices];
        for (at, endpoint) in endpoints.iter().enumerate() {
            let address = address(family, at);
            parts[at % scene.slices].push(written(endpoint, endpoint.conditions, &address));
            if let Some(copy) = endpoint.copy {
                parts[(at + 1) % scene.slices].push(written(endpoint, copy, &address));
            }
        }
        for (part, endpoints) in parts.into_iter().enumerate() {
            slices.push(json!({
                "metadata": {
                    "namespace": "shop", "name": format!("cart-{}-{part}", family.name()),
                    "labels": {"kubernetes.io/service-name": "cart"},
                },
                "addressType": if family == Family::V4 { "IPv4" } else { "IPv6" },
                "ports": [{"name": "http", "port": 8080}],
                "endpoints": endpoints,
            }));
        }
    }
    slices
}

// ---- What this node decides. ----

fn decided(scene: &Scene) -> Vec<WantedPort> {
    let mut index = Index::default();
    let service = Service::from_resource(&serde_json::from_value(service(scene)).unwrap(), None).unwrap().unwrap();
    let key = service.value.key.clone();
    assert_eq!(service.problems, []);
    index.apply(Change::Service(key.clone(), Some(Box::new(service.value))));
    for slice in slices(scene) {
        let slice = EndpointSlice::from_resource(&serde_json::from_value(slice).unwrap(), None).unwrap().unwrap();
        assert_eq!(slice.problems, []);
        index.apply(Change::EndpointSlice(slice.value.key.clone(), Some(Box::new(slice.value))));
    }
    let node = NodeInfo {
        name: HERE.into(),
        zone: scene.zone.map(Into::into),
        addresses: ["10.0.0.1", "fd00::1"].map(|ip| ip.parse().unwrap()).into(),
        ..NodeInfo::default()
    };
    Balancer::new(node).decide(&index, [key.clone()].into()).remove(&key).unwrap().ports
}

fn met(port: &WantedPort, uses_local: bool) -> Fate {
    match if uses_local { &port.local } else { &port.cluster } {
        Set::Unused => panic!("no set for a path in use: {port:?}"),
        Set::Reject => Fate::Refused,
        Set::Drop => Fate::Silence,
        Set::Endpoints(endpoints) => {
            let at = |ip: IpAddr| (0..).find(|at| address(Family::of(ip), *at) == ip.to_string()).unwrap();
            assert!(endpoints.iter().all(|endpoint| endpoint.port() == 8080));
            Fate::Served(endpoints.iter().map(|endpoint| at(endpoint.ip())).collect())
        }
    }
}

// ---- Clusters. ----

fn conditions() -> impl Strategy<Value = Conditions> {
    let mostly = |usual: bool| prop_oneof![3 => Just(None), 2 => Just(Some(usual)), 2 => Just(Some(!usual))];
    (mostly(true), mostly(true), mostly(false)).prop_map(|(ready, serving, terminating)| Conditions {
        ready,
        serving,
        terminating,
    })
}

fn endpoint(zone_hints: bool, node_hints: bool) -> impl Strategy<Value = Endpoint> {
    // Where there are hints, nearly all endpoints have one: a single one without makes all of them void.
    let hints = |there_are: bool, names: &'static [&'static str]| {
        let some = subsequence(names, 1..=2);
        prop_oneof![10 * u32::from(there_are) + 1 => some, 1 + 10 * u32::from(!there_are) => Just(Vec::new())]
    };
    let node = prop_oneof![1 => Just(None), 6 => select(&NODES[..]).prop_map(Some)];
    (
        node,
        conditions(),
        prop::option::weighted(0.15, conditions()),
        hints(zone_hints, &ZONES),
        hints(node_hints, &NODES),
    )
        .prop_map(|(node, conditions, copy, zones, nodes)| {
            let copy = copy.map(|copy| Conditions { terminating: Some(!terminates(&conditions)), ..copy });
            Endpoint { node, conditions, copy, zones, nodes }
        })
}

fn scene() -> impl Strategy<Value = Scene> {
    let endpoints = || {
        (any::<bool>(), any::<bool>())
            .prop_flat_map(|(zone_hints, node_hints)| vec(endpoint(zone_hints, node_hints), 0..6))
    };
    let zone = prop_oneof![1 => Just(None), 5 => select(&ZONES[..]).prop_map(Some)];
    let policies = (any::<bool>(), any::<bool>(), any::<bool>());
    // Two slices at least: of two copies in one, nothing is promised.
    (zone, policies, [endpoints(), endpoints()], 2..4_usize).prop_map(
        |(zone, (internal_local, external_local, reachable), endpoints, slices)| Scene {
            zone,
            internal_local,
            external_local,
            reachable,
            endpoints,
            slices,
        },
    )
}

#[test]
fn whoever_asks_and_on_whatever_way_is_served_by_those_that_the_rules_allow() {
    let reasons = RefCell::new(BTreeMap::<&str, usize>::new());
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) });
    let result = runner.run(&scene(), |scene| {
        let ports = decided(&scene);
        prop_assert_eq!(ports.len(), FAMILIES.len());
        for port in &ports {
            let family = port.name.family;
            let kinds: BTreeSet<FrontendKind> = port.frontends.values().copied().collect();
            let outer = [FrontendKind::NodePort, FrontendKind::LoadBalancer];
            prop_assert_eq!(kinds.contains(&outer[0]) && kinds.contains(&outer[1]), scene.reachable);
            for kind in kinds {
                let is_outer = outer.contains(&kind);
                // From the inside, only the ClusterIP may be Local: the short cut of clients on the node.
                let inside = !is_outer && scene.internal_local;
                let outside = if is_outer { scene.external_local } else { scene.internal_local };
                let (number, attributes) = (kind as u8, port.attributes);
                for (way, local, uses_local) in [
                    ("inside", inside, inside_uses_local(number, attributes)),
                    ("outside", outside, outside_uses_local(number, attributes)),
                ] {
                    let (fate, why) = scene.fate(family, local);
                    prop_assert_eq!(met(port, uses_local), fate, "{} by {:?}, {}: {}", family.name(), kind, way, why);
                    *reasons.borrow_mut().entry(why).or_default() += 1;
                }
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    // Each rule has had its turn, the rarest about 250 times: a floor that no seed comes near.
    let reasons = reasons.into_inner();
    for why in [
        "ready here",
        "draining here",
        "ready anywhere",
        "draining anywhere",
        "hinted for the node",
        "hinted for the zone",
        "refused",
        "silence",
    ] {
        assert!(reasons.get(why).is_some_and(|times| *times > 50), "{why} is not among {reasons:?}");
    }
}
