//! Golden texts of what each tool is fed.

use std::collections::BTreeSet;

use super::{
    rules,
    servers::{self, addresses, deletion},
    sets,
};
use crate::rivals::service::{Endpoint, Family, Node, Protocol, Service, ServicePort};

fn node() -> Node {
    Node {
        addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        pod_cidrs: vec!["192.168.0.0/16".parse().unwrap(), "fd00:192::/32".parse().unwrap()],
        service_cidrs: Vec::new(),
    }
}

fn web(endpoints: &[(&str, bool)]) -> Service {
    let endpoints = endpoints
        .iter()
        .map(|(address, local)| Endpoint { address: address.parse().unwrap(), local: *local })
        .collect();
    let port = ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: 30080, endpoints };
    Service {
        namespace: "shop".into(),
        name: "web".into(),
        cluster_ip: "10.96.0.10".parse().unwrap(),
        ports: vec![port],
    }
}

#[test]
fn a_service_is_a_virtual_server_at_its_cluster_ip_and_at_the_node_for_its_node_port() {
    let after = servers::servers(&node(), &web(&[("192.168.1.11:8080", true), ("192.168.2.12:8080", false)]));
    let change = servers::difference(&servers::Servers::new(), &after, &[]);
    let expected = "\
-A -t 10.0.0.1:30080 -s rr
-a -t 10.0.0.1:30080 -r 192.168.1.11:8080 -m -w 1
-a -t 10.0.0.1:30080 -r 192.168.2.12:8080 -m -w 1
-A -t 10.96.0.10:80 -s rr
-a -t 10.96.0.10:80 -r 192.168.1.11:8080 -m -w 1
-a -t 10.96.0.10:80 -r 192.168.2.12:8080 -m -w 1
";
    assert_eq!(change.input, expected);
    assert_eq!(change.terminating, []);
    let gone = servers::difference(&after, &servers::Servers::new(), &[]);
    assert_eq!(gone.input, "-D -t 10.0.0.1:30080\n-D -t 10.96.0.10:80\n");
}

#[test]
fn an_endpoint_that_goes_keeps_its_connections_and_one_that_comes_back_is_made_anew() {
    let mut service = web(&[("192.168.1.11:8080", true), ("192.168.2.12:8080", false)]);
    service.ports[0].node_port = 0;
    let both = servers::servers(&node(), &service);
    service.ports[0].endpoints.pop();
    let one = servers::servers(&node(), &service);
    let change = servers::difference(&both, &one, &[]);
    assert_eq!(change.input, "-e -t 10.96.0.10:80 -r 192.168.2.12:8080 -m -w 0\n");
    let back = servers::difference(&one, &both, &change.terminating);
    let expected = "\
-d -t 10.96.0.10:80 -r 192.168.2.12:8080
-a -t 10.96.0.10:80 -r 192.168.2.12:8080 -m -w 1
";
    assert_eq!(back.input, expected);
    assert_eq!(deletion(&change.terminating), "-d -t 10.96.0.10:80 -r 192.168.2.12:8080\n");
}

#[test]
fn cluster_ips_are_addresses_of_the_dummy_device() {
    let address = Some("10.96.0.10".parse().unwrap());
    assert_eq!(addresses(None, address), "address replace 10.96.0.10 dev kube-ipvs0\n");
    assert_eq!(addresses(address, None), "address del 10.96.0.10 dev kube-ipvs0\n");
    assert_eq!(addresses(address, address), "");
}

#[test]
fn the_sets_have_the_cluster_ip_the_node_port_and_the_local_endpoints() {
    let entries = sets::entries(&web(&[("192.168.1.11:8080", true), ("192.168.2.12:8080", false)]));
    let expected = "\
add KUBE-CLUSTER-IP 10.96.0.10,tcp:80 -exist
add KUBE-IPVS-IPS 10.96.0.10 -exist
add KUBE-LOOP-BACK 192.168.1.11,tcp:8080,192.168.1.11 -exist
add KUBE-NODE-PORT-TCP 30080 -exist
";
    assert_eq!(sets::difference(&BTreeSet::new(), &entries), expected);
    assert_eq!(sets::difference(&entries, &BTreeSet::new()), expected.replace("add ", "del "));
}

#[test]
fn names_of_ipv6_sets_are_told_apart_and_not_too_long() {
    let names: Vec<_> = sets::names(Family::V6).collect();
    assert!(names.iter().all(|name| name.starts_with("KUBE-6-") && name.len() <= 31), "{names:?}");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 17, "{names:?}");
}

#[test]
fn the_rules_are_kube_proxys_and_as_many_for_one_service_as_for_a_thousand() {
    let one = vec![web(&[("192.168.1.11:8080", true)])];
    let expected = include_str!("../../../tests/golden/ipvs_rules_v4.txt");
    assert_eq!(rules::restore_input(&node(), Family::V4, &one), expected);
    assert_eq!(rules::restore_input(&node(), Family::V4, &vec![one[0].clone(); 1000]), expected);
}
