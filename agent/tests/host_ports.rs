//! Host ports of pods, from what a CNI says of them to the maps.
#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod support;

use std::net::IpAddr;

use millrace_agent::{
    datapath::MemoryTables,
    diff::{Planner, Sizes, dump},
    lb::{Balancer, Frontend, PortName},
    model::{
        Algorithm, HostPorts, Policy, PortMapping,
        Protocol::{self, Tcp, Udp},
        Service, ServiceKey, ServicePort,
    },
    watch::Change,
};
use support::pipeline::{Pipeline, node};

const SIZES: Sizes = Sizes { services: 64, frontends: 128, backends: 256, slots: 256, source_ranges: 64 };
const V4: &str = "192.168.1.11";
const V6: &str = "fd00:192:168:1::11";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn owner(id: &str) -> ServiceKey {
    ServiceKey::of_sandbox(id).unwrap()
}

fn mapping(host: Option<&str>, host_port: u16, protocol: Protocol) -> PortMapping {
    PortMapping { host: host.map(ip), host_port, protocol, pod_port: 8080 }
}

fn pod(id: &str, addresses: &[&str], mappings: &[PortMapping]) -> Change {
    let ports = HostPorts { pod: addresses.iter().map(|text| ip(text)).collect(), mappings: mappings.into() };
    Change::HostPorts(owner(id), Some(Box::new(ports)))
}

fn gone(id: &str) -> Change {
    Change::HostPorts(owner(id), None)
}

/// A Service with a node port that says nothing of its age.
fn service(node_port: u16) -> Service {
    Service {
        key: ServiceKey::new("shop", "zebra"),
        created: 0,
        cluster_ips: [ip("10.96.0.1")].into(),
        external_ips: Box::default(),
        load_balancer_vips: Box::default(),
        source_ranges: Box::default(),
        ports: [ServicePort { name: "http".into(), protocol: Tcp, port: 80, node_port }].into(),
        internal_policy: Policy::Cluster,
        external_policy: Policy::Cluster,
        algorithm: Algorithm::Random,
        affinity_seconds: None,
        health_check_port: 0,
    }
}

fn pipeline() -> Pipeline<MemoryTables> {
    Pipeline::new(SIZES, MemoryTables::new(SIZES))
}

fn maps(pipeline: &mut Pipeline<MemoryTables>, changes: impl IntoIterator<Item = Change>) -> String {
    changes.into_iter().for_each(|change| pipeline.apply(change));
    pipeline.settle();
    dump(&pipeline.tables.snapshot())
}

/// A mapping for all addresses is on each of the node's, in the families that the pod has; one for an address is there
/// only. The node's other ports stay its own: no address is owned. When the pod goes, nothing stays.
#[test]
fn host_ports_are_frontends_on_the_nodes_addresses() {
    let mut pipeline = pipeline();
    let text = maps(
        &mut pipeline,
        [
            pod("web", &[V4, V6], &[mapping(None, 80, Tcp)]),
            pod("dns", &["192.168.1.12"], &[mapping(Some("10.0.0.1"), 53, Udp), mapping(Some("10.0.0.77"), 53, Tcp)]),
        ],
    );
    let expected = "\
service hostPort/dns:53@10.0.0.1/UDP/v4
  external traffic policy Local
  HostPort 10.0.0.1:53/UDP
  cluster: 192.168.1.12:8080
  local: 192.168.1.12:8080
service hostPort/web:80/TCP/v4
  external traffic policy Local
  HostPort 10.0.0.1:80/TCP
  cluster: 192.168.1.11:8080
  local: 192.168.1.11:8080
service hostPort/web:80/TCP/v6
  external traffic policy Local
  HostPort [fd00::1]:80/TCP
  cluster: [fd00:192:168:1::11]:8080
  local: [fd00:192:168:1::11]:8080
";
    assert_eq!(text, expected);
    assert_eq!(maps(&mut pipeline, [gone("web"), gone("dns")]), "");
}

/// What is served of a port that a Service has as its node port, and a pod as its host port, in whichever order they come:
/// the Service. The pod's owner is told, and gets it when the Service gives it up.
#[test]
fn a_node_port_goes_before_a_host_port() {
    let change = |service: Service| Change::Service(service.key.clone(), Some(Box::new(service)));
    let pod = || pod("web", &[V4], &[mapping(None, 30_080, Tcp)]);
    for changes in [[change(service(30_080)), pod()], [pod(), change(service(30_080))]] {
        let mut pipeline = pipeline();
        let text = maps(&mut pipeline, changes);
        assert!(text.contains("NodePort 10.0.0.1:30080/TCP") && !text.contains("HostPort"), "{text}");
        let decisions = pipeline.balancer.decide(&pipeline.index, [owner("web")].into());
        let told: Vec<String> = decisions[&owner("web")].conflicts.iter().map(ToString::to_string).collect();
        assert!(told[0].starts_with("10.0.0.1:30080/TCP belongs to shop/zebra, which comes first"), "{told:?}");
        let text = maps(&mut pipeline, [change(service(0))]);
        assert!(text.contains("HostPort 10.0.0.1:30080/TCP"), "{text}");
    }
}

/// An address that the node loses, and gets back.
#[test]
fn host_ports_follow_the_nodes_addresses() {
    let mut pipeline = pipeline();
    maps(&mut pipeline, [pod("web", &[V4], &[mapping(None, 80, Tcp)])]);
    for (addresses, served) in [(&["10.0.0.9"][..], "10.0.0.9"), (&["127.0.0.1", "10.0.0.1"], "10.0.0.1")] {
        let addresses = addresses.iter().map(|text| ip(text)).collect();
        pipeline.balancer.set_node(millrace_agent::lb::NodeInfo { addresses, ..node() });
        pipeline.dirty.extend(pipeline.index.owners().cloned());
        pipeline.settle();
        let frontends: Vec<Frontend> = pipeline.tables.frontends().map(|(frontend, _)| *frontend).collect();
        assert_eq!(frontends, [Frontend { address: ip(served), port: 80, protocol: Tcp }], "never on loopback");
    }
}

/// A restart of the agent finds the records of host ports by their names, and writes nothing.
#[test]
fn a_restart_over_unchanged_host_ports_takes_no_operation() {
    let mut pipeline = pipeline();
    let id = "0123456789abcdef".repeat(4);
    let change = || pod(&id, &[V4, V6], &[mapping(None, 80, Tcp), mapping(Some("fd00::1"), 81, Udp)]);
    let before = maps(&mut pipeline, [change()]);
    assert_eq!(before.matches("HostPort").count(), 3, "{before}");
    for name in pipeline.tables.snapshot().names.values() {
        assert_eq!(&name.parse::<PortName>().unwrap().to_string(), name);
    }
    pipeline.planner = Planner::restore(&pipeline.tables.snapshot(), SIZES);
    pipeline.balancer = Balancer::new(node());
    pipeline.dirty.insert(owner(&id));
    assert_eq!(pipeline.sync(), []);
}

#[test]
fn an_id_that_the_maps_cannot_keep_is_refused() {
    for id in ["", "a/b", "a:b", &"x".repeat(65)] {
        let message = ServiceKey::of_sandbox(id).unwrap_err().to_string();
        assert!(message.starts_with("containerID: `"), "{message}");
    }
}
