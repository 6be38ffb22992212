//! The decision loop: batches what has come in, decides and writes, one round after the other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use millrace_common::maps;
use tokio::{
    sync::{mpsc, watch as latest},
    time::{self, sleep_until},
};
use tracing::{debug, info, warn};

use super::{Pipeline, health_checks::HealthChecks, own_addresses::Telling, settling::Settling};
use crate::{
    datapath::KernelTables,
    diff::{ChosenPods, Ticket, Usage},
    health::Health,
    lb::Assigned,
    metrics::{MapLabel, Metrics, PolicyLabel},
    watch::{self, Change, Warning},
};

/// Changes taken in before a round, at most: a flood must not keep the first of them waiting for ever.
const BATCH: usize = 4096;
/// Between an operation that failed and its next attempt; doubles while it fails.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

pub(super) struct Loop {
    pipeline: Pipeline<KernelTables>,
    health: Arc<Health>,
    metrics: Metrics,
    source: Arc<watch::Health>,
    /// When to stop waiting for the source's first complete list.
    patience: time::Instant,
    retry_at: Option<time::Instant>,
    pause: Duration,
    /// Arrival of the oldest change that is not in the maps.
    oldest: Option<Instant>,
    /// `endpoints.kubernetes.io/last-change-trigger-time` of slices in this batch.
    triggered: Vec<i64>,
    trimmed: bool,
    told: Told,
}

/// To whom else the loop's decisions go.
pub(super) struct Told {
    /// To the programs, before whatever a round writes: who is sent on needs somebody to be answered.
    pub own: Telling,
    /// To the servers of health check node ports.
    pub checks: latest::Sender<HealthChecks>,
    /// To who keeps the socket hooks away from pods.
    pub chosen: latest::Sender<ChosenPods>,
    /// To who writes Events, where the source takes them.
    pub warnings: mpsc::Sender<Warning>,
}

impl Loop {
    pub(super) fn new(
        pipeline: Pipeline<KernelTables>,
        patience: Duration,
        health: Arc<Health>,
        metrics: Metrics,
        source: Arc<watch::Health>,
        told: Told,
    ) -> Self {
        Self {
            pipeline,
            health,
            metrics,
            source,
            patience: time::Instant::now() + patience,
            retry_at: None,
            pause: RETRY,
            oldest: None,
            triggered: Vec::new(),
            trimmed: false,
            told,
        }
    }

    /// Ends when the source does.
    pub(super) async fn run(mut self, mut changes: mpsc::Receiver<Change>, mut addresses: latest::Receiver<Assigned>) {
        let (grace_over, mut graces) = mpsc::unbounded_channel::<Option<Ticket>>();
        let (mut waiting, mut grace_under_way) = (true, false);
        let mut moving = Settling::default();
        loop {
            let (retry, moved) = (self.retry_at, moving.over());
            tokio::select! {
                change = changes.recv() => {
                    let Some(change) = change else { return };
                    self.take(change);
                    for _ in 1..BATCH {
                        let Ok(change) = changes.try_recv() else { break };
                        self.take(change);
                    }
                }
                Ok(()) = addresses.changed() => {
                    // Each of them is a round over all services.
                    moving.stir(time::Instant::now());
                    continue;
                }
                () = sleep_until(moved.unwrap_or(self.patience)), if moved.is_some() => {
                    moving = Settling::default();
                    let now = addresses.borrow_and_update().clone();
                    self.pipeline.set_addresses(now);
                }
                Some(passed) = graces.recv() => {
                    grace_under_way = false;
                    // Without one it is asked for again below, for all that waits by then.
                    if let Some(ticket) = passed {
                        self.pipeline.graced(ticket);
                    }
                }
                () = sleep_until(self.patience), if waiting => {
                    waiting = false;
                    self.stop_waiting();
                }
                () = sleep_until(retry.unwrap_or(self.patience)), if retry.is_some() => {
                    self.retry_at = None;
                    self.pipeline.retry();
                }
            }
            waiting &= !self.pipeline.is_synced();
            self.round();
            if !grace_under_way && let Some(ticket) = self.pipeline.pending_grace() {
                grace_under_way = true;
                let grace_over = grace_over.clone();
                self.pipeline.tables().grace().request(move |passed| {
                    // Nobody listens any more when the agent ends.
                    let _ = grace_over.send(passed.is_ok().then_some(ticket));
                });
            }
        }
    }

    fn take(&mut self, change: Change) {
        // Whom the socket hooks leave alone is written elsewhere: no round is behind with it.
        if let Change::Pod(..) | Change::Namespace(..) | Change::PodsSynced = change {
            return self.pipeline.take(change);
        }
        let now = Instant::now();
        self.oldest = self.oldest.or(Some(now));
        self.health.queued(now);
        match &change {
            Change::Service(..) => drop(self.metrics.service_changes.inc()),
            Change::EndpointSlice(_, slice) => {
                self.metrics.endpoint_changes.inc();
                self.triggered.extend(slice.as_ref().and_then(|slice| slice.triggered));
            }
            _ => {}
        }
        self.pipeline.take(change);
    }

    fn stop_waiting(&mut self) {
        if !self.pipeline.is_synced() {
            let unlisted = self.source.unlisted().join(", ");
            warn!(
                no_list_of = if unlisted.is_empty() { "the source" } else { &unlisted },
                "the source is not complete in time: only services that are new to this node are programmed until it is"
            );
            self.pipeline.stop_waiting();
        }
    }

    fn round(&mut self) {
        let start = Instant::now();
        let told = self.told.own.tell(self.pipeline.own_addresses());
        let mut round = self.pipeline.round();
        if let Err(error) = told {
            warn!(%error, "will be tried again");
            round.failures += 1;
        }
        tell(&self.told.checks, self.pipeline.health_checks());
        tell(&self.told.chosen, self.pipeline.per_packet());
        for warning in self.pipeline.take_warnings() {
            // Nobody writes any, or the API server is slow: the log has said it.
            let _ = self.told.warnings.try_send(warning);
        }
        let now = Instant::now();
        self.metrics.failed_operations.inc_by(round.failures as u64);
        if round.failures > 0 {
            self.retry_at = Some(time::Instant::now() + self.pause);
            self.pause = (self.pause * 2).min(RETRY_MAX);
            return;
        }
        self.pause = RETRY;
        if self.pipeline.is_behind() || !self.pipeline.is_synced() {
            return;
        }
        if round.written > 0 {
            self.metrics.sync_duration.observe((now - start).as_secs_f64());
            debug!(operations = round.written, took = ?(now - start), "in step");
        }
        self.settled(now);
    }

    /// All that was taken in is in the maps.
    fn settled(&mut self, now: Instant) {
        let clock = Timestamp::now();
        self.health.settled(clock);
        self.health.set_leaving(self.pipeline.is_leaving());
        // The first complete list says nothing of how long a change takes.
        if let Some(arrived) = self.oldest.take().filter(|_| self.trimmed) {
            self.metrics.change_to_effect.observe((now - arrived).as_secs_f64());
        }
        for triggered in std::mem::take(&mut self.triggered).into_iter().filter(|_| self.trimmed) {
            let seconds = (clock.as_millisecond() - triggered).max(0) as f64 / 1000.0;
            self.metrics.programming_duration.observe(seconds);
        }
        self.report(clock);
        if !self.trimmed {
            self.trimmed = true;
            trim();
            info!("the maps are in step with the source");
        }
    }

    fn report(&self, clock: Timestamp) {
        self.metrics.last_sync.set(clock.as_millisecond() as f64 / 1000.0);
        self.metrics.waiting_ports.set(self.pipeline.waiting() as i64);
        self.metrics.conflicts.set(self.pipeline.conflicts() as i64);
        self.metrics.held_services.set(self.pipeline.held() as i64);
        let (internal, external) = self.pipeline.no_local_endpoints();
        for (traffic_policy, count) in [("internal", internal), ("external", external)] {
            self.metrics.no_local_endpoints.get_or_create(&PolicyLabel { traffic_policy }).set(count as i64);
        }
        let usage = self.pipeline.planner().usage();
        for (map, slots) in ["SLOTS_V4", "SLOTS_V6"].into_iter().zip(&usage.slots) {
            self.metrics.longest_free.get_or_create(&MapLabel { map }).set(slots.longest.into());
        }
        for (map, used, capacity) in occupied(&usage) {
            self.metrics.occupied(map, used, capacity);
        }
    }
}

fn tell<T: Clone + PartialEq>(to: &latest::Sender<T>, now: &T) {
    to.send_if_modified(|known| {
        let changed = known != now;
        if changed {
            known.clone_from(now);
        }
        changed
    });
}

/// Parsing all objects of a large cluster leaves holes: back to the kernel with them.
fn trim() {
    // SAFETY: only releases memory that the allocator holds free.
    unsafe { libc::malloc_trim(0) };
}

/// Map, entries in use, entries that there are.
fn occupied(usage: &Usage) -> [(&'static str, u32, u32); 10] {
    let sizes = &usage.sizes;
    [
        ("SERVICES", usage.services, sizes.services),
        ("BACKENDS", usage.backends, sizes.backends),
        ("FRONTENDS_V4", usage.frontends[0], sizes.frontends),
        ("FRONTENDS_V6", usage.frontends[1], sizes.frontends),
        ("SLOTS_V4", usage.slots[0].size - usage.slots[0].free, usage.slots[0].size),
        ("SLOTS_V6", usage.slots[1].size - usage.slots[1].free, usage.slots[1].size),
        ("SOURCE_RANGES_V4", usage.source_ranges[0], sizes.source_ranges),
        ("SOURCE_RANGES_V6", usage.source_ranges[1], sizes.source_ranges),
        ("SERVICE_CIDRS_V4", usage.cidrs[0], maps::SERVICE_CIDRS),
        ("SERVICE_CIDRS_V6", usage.cidrs[1], maps::SERVICE_CIDRS),
    ]
}
