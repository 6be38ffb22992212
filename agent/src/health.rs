//! `/healthz` and `/livez`, as kube-proxy has them: is the node kept in step with the cluster?

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;

use crate::http::Answer;

/// Changes that wait longer than this make the node unhealthy (kube-proxy: twice its sync period).
const PATIENCE: Duration = Duration::from_secs(60);

/// Written by the decision loop, read by the server.
#[derive(Debug, Default)]
pub struct Health {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// When the oldest change arrived that is not in the maps.
    pending: Option<Instant>,
    updated: Option<Timestamp>,
    leaving: bool,
}

impl State {
    fn is_in_step(&self, now: Instant) -> bool {
        self.pending.is_none_or(|since| now.duration_since(since) <= PATIENCE)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
}

impl Health {
    /// A change has arrived.
    pub fn queued(&self, now: Instant) {
        self.change(|state| state.pending = state.pending.or(Some(now)));
    }

    /// Everything that arrived is in the maps.
    pub fn settled(&self, now: Timestamp) {
        self.change(|state| {
            state.pending = None;
            state.updated = Some(now);
        });
    }

    /// The node is being deleted: load balancers should send it no new connections.
    pub fn set_leaving(&self, leaving: bool) {
        self.change(|state| state.leaving = leaving);
    }

    /// What to answer at this moment; any other path is not found.
    #[must_use]
    pub fn answer(&self, path: &str, now: Instant, clock: Timestamp) -> Answer {
        let state = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let in_step = state.is_in_step(now);
        let (healthy, node_eligible) = match path {
            "/healthz" => (in_step && !state.leaving, Some(!state.leaving)),
            "/livez" => (in_step, None),
            _ => return Answer::not_found(),
        };
        let last_updated = state.updated.map_or_else(String::new, |time| time.to_string());
        let body = Body { last_updated, current_time: clock.to_string(), node_eligible };
        let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Answer::new(status, "application/json", serde_json::to_string(&body).unwrap_or_default())
    }

    /// No change has waited for too long.
    #[must_use]
    pub fn is_in_step(&self, now: Instant) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_in_step(now)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(health: &Health, at: Instant) -> (u16, u16) {
        let ask = |path| health.answer(path, at, Timestamp::UNIX_EPOCH).status.as_u16();
        (ask("/healthz"), ask("/livez"))
    }

    #[test]
    fn an_agent_that_keeps_up_is_healthy_and_one_that_is_a_minute_behind_is_not() {
        let (health, start) = (Health::default(), Instant::now());
        assert_eq!(statuses(&health, start), (200, 200));
        health.queued(start);
        health.queued(start + Duration::from_secs(50));
        assert_eq!(statuses(&health, start + Duration::from_secs(60)), (200, 200));
        assert_eq!(statuses(&health, start + Duration::from_secs(61)), (503, 503));
        health.settled(Timestamp::UNIX_EPOCH);
        assert_eq!(statuses(&health, start + Duration::from_secs(61)), (200, 200));
    }

    #[test]
    fn a_node_that_leaves_gets_no_new_connections_but_is_alive() {
        let health = Health::default();
        health.set_leaving(true);
        assert_eq!(statuses(&health, Instant::now()), (503, 200));
    }

    #[test]
    fn the_body_is_the_one_that_kube_proxy_sends() {
        let health = Health::default();
        health.settled(Timestamp::UNIX_EPOCH);
        let body = health.answer("/healthz", Instant::now(), Timestamp::UNIX_EPOCH).body;
        assert_eq!(
            body,
            r#"{"lastUpdated":"1970-01-01T00:00:00Z","currentTime":"1970-01-01T00:00:00Z","nodeEligible":true}"#
        );
    }
}
