//! Each rival that this kernel can do, with real connections in network namespaces: it must do what kube-proxy does, or
//! a comparison with it says nothing. Needs root.

mod rivals;

use millrace_bench::rivals::{Backend, Iptables, Nftables, Rival};

use rivals::{
    checks::{all, assert_refused, at},
    stage::{Stage, WEB, services},
};

#[test]
fn iptables_over_x_tables_does_what_kube_proxy_does() {
    let stage = Stage::new();
    all(&mut Iptables::new(stage.namespace(), Backend::Legacy, stage.node()), &stage);
}

#[test]
fn iptables_over_nf_tables_does_what_kube_proxy_does() {
    let stage = Stage::new();
    all(&mut Iptables::new(stage.namespace(), Backend::Nft, stage.node()), &stage);
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
    all(&mut rival, &stage);
}
