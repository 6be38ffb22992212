//! Moving a node from a rival to millrace: what talks meanwhile, and what the agent is told.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use millrace_tests::{
    address::in_family,
    client::Stream,
    manifests::{Endpoint, Port, Service},
    place::Place,
    probe::{Manner, Outcome},
};

use crate::rivals::{
    checks::at,
    stage::{P1, P2, Stage, WEB, WEB_NODE_PORT},
};

/// The service `web` of [`crate::rivals::stage::services`], for the agent.
pub(super) fn web() -> Service {
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
pub(super) fn translated(stage: &Stage) -> Vec<(Place, SocketAddr)> {
    let both = |v6| {
        let node = in_family(Ipv4Addr::new(10, 0, 0, 1), v6);
        [(stage.pod("client"), at(WEB, v6, 80)), (stage.outside(), SocketAddr::new(node, WEB_NODE_PORT))]
    };
    [false, true].into_iter().flat_map(both).collect()
}

pub(super) fn assert_went_on(stream: Stream, to: SocketAddr) {
    let lines = stream.stop().unwrap();
    let (first, last) = (&lines[0], &lines[lines.len() - 1]);
    assert!(lines.iter().all(|line| line.outcome == first.outcome), "{to}: {lines:?}");
    assert!(last.exchanges > first.exchanges + 50, "{to}: it did not go on: {lines:?}");
}

pub(super) fn talking(from: &Place, to: SocketAddr, manner: &Manner) -> Stream {
    let mut stream = Stream::start(from, to, manner).unwrap();
    stream.wait_for(Duration::from_secs(60), |outcome| matches!(outcome, Outcome::Answered { .. })).unwrap();
    stream
}

pub(super) fn shell(node: &Place, script: &str) -> String {
    let output = node.command("/bin/sh".as_ref()).unwrap().args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
