//! Each rival that this kernel can do, with real connections in network namespaces: it must do what kube-proxy does, or
//! a comparison with it says nothing. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod cleanup;
mod rivals;

use std::{net::Ipv4Addr, time::Instant};

use millrace_bench::rivals::{Backend, Iptables, Nftables, Rival};
use millrace_tests::probe;

use rivals::{
    checks::{all, answers, assert_refused, at, names},
    stage::{BYSTANDER, MANY, P1, P2, Stage, WEB, service, services},
};

#[test]
fn iptables_over_x_tables_does_what_kube_proxy_does() {
    let stage = Stage::new();
    let mut rival = Iptables::new(stage.namespace(), Backend::Legacy, stage.node());
    takes_a_thousand_services(&mut rival, &stage);
    all(&mut rival, &stage);
}

#[test]
fn iptables_over_nf_tables_does_what_kube_proxy_does() {
    let stage = Stage::new();
    let mut rival = Iptables::new(stage.namespace(), Backend::Nft, stage.node());
    takes_a_thousand_services(&mut rival, &stage);
    all(&mut rival, &stage);
}

#[test]
fn nftables_does_what_kube_proxy_does() {
    let stage = Stage::new();
    let mut rival = Nftables::new(stage.namespace(), stage.node());
    rival.program(services()).unwrap();
    for v6 in [false, true] {
        // Only this mode refuses ports that a ClusterIP does not have.
        assert_refused(&stage.pod("client"), at(WEB, v6, 81));
    }
    takes_a_thousand_services(&mut rival, &stage);
    all(&mut rival, &stage);
}

/// A thousand services: the last one is reached, and a change to it takes effect.
fn takes_a_thousand_services(rival: &mut dyn Rival, stage: &Stage) {
    let address = |i: usize| Ipv4Addr::new(10, 96, (1 + i / 250) as u8, (i % 250) as u8);
    let many = (0..1000).map(|i| service(&format!("s{i}"), address(i), false, 0, &[P1, P2])).collect();
    let start = Instant::now();
    rival.program(many).unwrap();
    println!("{}: 1,000 services in {:?}", rival.name(), start.elapsed());
    let (client, last) = (stage.pod("client"), at(address(999), false, 80));
    assert_eq!(answers(&client, last, MANY, probe::Protocol::Tcp).0, names(["p1", "p2"]));
    let start = Instant::now();
    rival.change(service("s999", address(999), false, 0, &[BYSTANDER])).unwrap();
    println!("{}: one change among them in {:?}", rival.name(), start.elapsed());
    assert_eq!(answers(&client, last, MANY, probe::Protocol::Tcp).0, names(["bystander"]));
}
