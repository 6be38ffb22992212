//! Moving a node from a rival to millrace: what talks meanwhile, and what the agent is told.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use millrace_bench::rivals::Rival;
use millrace_tests::{
    address::in_family,
    agent::{Agent, run_to_end},
    client::{Load, Stream},
    manifests::{Endpoint, Manifests, Port, Service},
    place::Place,
    probe::{self, Manner, Outcome},
};

use super::{
    checks::at,
    stage::{P1, P2, Stage, WEB, WEB_NODE_PORT, services},
};

/// How long an exchange may take, in milliseconds: machines are loaded, and a hung connection is never answered.
pub(crate) const PATIENCE: u64 = 3000;

pub(crate) const STEADY: Manner = Manner { every: 5, timeout: PATIENCE, ..Manner::of(probe::Protocol::Tcp) };

/// The whole way: the agent starts beside kube-proxy's rules, then these go. Connections that were opened before, and
/// those that are opened all the while, notice nothing. Returns what the removal said.
pub(crate) fn moves_under_load(stage: &Stage, rival: &mut dyn Rival) -> String {
    rival.program(services()).unwrap();
    let ways = translated(stage);
    let streams: Vec<_> = ways.iter().map(|(from, to)| talking(from, *to, &STEADY)).collect();
    let manner = Manner { every: 2, timeout: PATIENCE, ..Manner::of(probe::Protocol::Tcp) };
    let loads: Vec<_> = ways.iter().map(|(from, to)| Load::start(from, &[*to], 1, &manner).unwrap()).collect();

    let manifests = Manifests::create().unwrap();
    manifests.apply("web.yaml", &web().objects()).unwrap();
    let _agent = Agent::start(stage.network.node("n1").unwrap(), &manifests, &[]).unwrap();
    let said = cleanup(&stage.on_node(), &[]);
    thread::sleep(Duration::from_millis(PATIENCE + 500));

    for (load, (_, to)) in loads.into_iter().zip(&ways) {
        let report = load.stop().unwrap();
        assert_eq!(report.failed, 0, "{to}: {:?}", report.failures);
        assert!(report.total() > 100, "{to}: {report:?}");
    }
    for (stream, (_, to)) in streams.into_iter().zip(&ways) {
        assert_went_on(stream, *to);
    }
    said
}

/// With all programs of the node. Returns what it said.
pub(crate) fn cleanup(node: &Place, more: &[&str]) -> String {
    let output = run_to_end(node, &[&["cleanup", "--kube-proxy"], more].concat(), false).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The service `web` of [`super::stage::services`], for the agent.
fn web() -> Service {
    let both = |address| [false, true].map(|v6| in_family(address, v6));
    let endpoint = |address| Endpoint { address, node: "n1".into(), terminating: false };
    let port = Port { name: "http".into(), protocol: "TCP".into(), port: 80, target: 8080, node_port: WEB_NODE_PORT };
    Service {
        name: "web".into(),
        cluster_ips: both(WEB).into(),
        ports: vec![port],
        endpoints: [P1, P2].into_iter().flat_map(both).map(endpoint).collect(),
        ..Service::default()
    }
}

/// Where from and where to connections are translated: by DNAT alone, and by both (node port from outside).
pub(crate) fn translated(stage: &Stage) -> Vec<(Place, SocketAddr)> {
    let both = |v6| {
        let node = in_family(Ipv4Addr::new(10, 0, 0, 1), v6);
        [(stage.pod("client"), at(WEB, v6, 80)), (stage.outside(), SocketAddr::new(node, WEB_NODE_PORT))]
    };
    [false, true].into_iter().flat_map(both).collect()
}

pub(crate) fn assert_went_on(stream: Stream, to: SocketAddr) {
    let lines = stream.stop().unwrap();
    let (first, last) = (&lines[0], &lines[lines.len() - 1]);
    assert!(lines.iter().all(|line| line.outcome == first.outcome), "{to}: {lines:?}");
    assert!(last.exchanges > first.exchanges + 50, "{to}: it did not go on: {lines:?}");
}

pub(crate) fn talking(from: &Place, to: SocketAddr, manner: &Manner) -> Stream {
    let mut stream = Stream::start(from, to, manner).unwrap();
    stream.wait_for(Duration::from_secs(60), |outcome| matches!(outcome, Outcome::Answered { .. })).unwrap();
    stream
}
