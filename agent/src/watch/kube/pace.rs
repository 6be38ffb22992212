//! How long to wait before the API server is asked again.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep_until};

use super::retry_after::RetryAfter;

/// Short, for a connection that broke is the everyday case, and a change waits for it.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(20);

/// Doubles with each failure, with jitter, so that a cluster's nodes do not come back in step.
pub(super) struct Pace {
    backoff: ExponentialBackoff,
    retry_after: RetryAfter,
}

impl Pace {
    pub(super) fn new(retry_after: RetryAfter) -> Self {
        Self { backoff: backoff(), retry_after }
    }

    /// It went well.
    pub(super) fn reset(&mut self) {
        self.backoff = backoff();
    }

    /// It did not.
    pub(super) async fn pause(&mut self) {
        let until = Instant::now() + self.backoff.next().unwrap_or(LONGEST);
        sleep_until(self.retry_after.until().map_or(until, |asked| asked.max(until))).await;
    }
}

fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::new().with_min_delay(FIRST).with_max_delay(LONGEST).with_jitter().without_max_times().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pauses(pace: &mut Pace, count: usize) -> Vec<Duration> {
        let mut pauses = Vec::new();
        for _ in 0..count {
            let start = Instant::now();
            pace.pause().await;
            pauses.push(start.elapsed());
        }
        pauses
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_are_waited_for_ever_longer_up_to_a_limit() {
        let mut pace = Pace::new(RetryAfter::default());
        let waited = pauses(&mut pace, 12).await;
        assert!(waited[0] < FIRST * 3, "{waited:?}");
        assert!(waited[11] >= LONGEST && waited[11] <= LONGEST * 2 + FIRST, "{waited:?}");
        pace.reset();
        assert!(pauses(&mut pace, 1).await[0] < FIRST * 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_for_time_gets_it_but_not_for_ever() {
        let retry_after = RetryAfter::default();
        let mut pace = Pace::new(retry_after.clone());
        for (header, seconds) in [("3", 3), ("100000", 60)] {
            let busy = http::Response::builder().status(429).header("retry-after", header).body(()).unwrap();
            drop(retry_after.note(busy));
            let waited = pauses(&mut pace, 1).await[0];
            assert!(waited >= Duration::from_secs(seconds) && waited < Duration::from_secs(seconds + 1), "{waited:?}");
        }
    }
}
