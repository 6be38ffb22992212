//! A source that cannot be had.

use std::{
    thread,
    time::{Duration, Instant},
};

use millrace_tests::{agent::Agent, manifests::Manifests};

use crate::network;

#[test]
fn each_line_about_an_api_server_that_is_not_there_names_it() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    let url = "https://127.0.0.1:1";
    let agent = Agent::spawn(node, &manifests, &["--source", "kube", "--kube-api", url]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while !agent.log_tail().contains("the list failed") {
        assert!(Instant::now() < deadline, "{}", agent.log_tail());
        thread::sleep(Duration::from_millis(10));
    }
    let log = agent.log_tail();
    let complaints = log.lines().filter(|line| line.contains("failed"));
    let nameless: Vec<_> = complaints.filter(|line| !line.contains(url)).collect();
    assert!(nameless.is_empty(), "{nameless:#?}");
    agent.terminate().unwrap();
}
