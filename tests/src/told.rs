//! What an agent tells of itself: its metrics, and its log.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use crate::{agent::Agent, http, node::Node};

const PATIENCE: Duration = Duration::from_secs(60);

/// The text of /metrics, asked for from the node itself; empty while nobody answers.
#[must_use]
pub fn metrics(node: &Node) -> String {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 10249));
    http::get(&node.netns, to, "/metrics").map_or_else(|_| String::new(), |answer| answer.body)
}

/// Waits until every one of `lines` stands in /metrics.
///
/// # Panics
/// If they do not come, with what is there instead.
pub fn wait_for_metrics(node: &Node, agent: &Agent, lines: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = metrics(node);
        let missing: Vec<_> = lines.iter().filter(|line| !text.lines().any(|found| found == **line)).collect();
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{missing:?} are not in\n{text}\n{}", agent.log_tail());
        thread::sleep(Duration::from_millis(20));
    }
}

/// # Panics
/// If no line of the log has all `parts`.
pub fn assert_logged(agent: &Agent, parts: &[&str]) {
    let log = agent.log_tail();
    let said = log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(said, "no line has {parts:?}:\n{log}");
}
