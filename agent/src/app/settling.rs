//! When a burst of news is over, or has lasted long enough to be acted on: pure.

use std::time::Duration;

use tokio::time::Instant;

/// Without news for so long, it is over.
const QUIET: Duration = Duration::from_millis(50);
/// It is acted on after so long, over or not.
const LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Settling {
    /// The first and the last of the news.
    since: Option<(Instant, Instant)>,
}

impl Settling {
    /// There are news.
    pub(super) fn stir(&mut self, now: Instant) {
        let first = self.since.map_or(now, |(first, _)| first);
        self.since = Some((first, now));
    }

    /// When to act, if there was anything.
    pub(super) fn over(&self) -> Option<Instant> {
        self.since.map(|(first, last)| (last + QUIET).min(first + LIMIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_is_acted_on_soon_and_a_burst_once_it_is_over() {
        let (start, mut settling) = (Instant::now(), Settling::default());
        assert_eq!(settling.over(), None);
        settling.stir(start);
        assert_eq!(settling.over(), Some(start + QUIET));
        settling.stir(start + QUIET / 2);
        assert_eq!(settling.over(), Some(start + QUIET + QUIET / 2));
    }

    #[test]
    fn news_without_end_are_acted_on_once_a_second() {
        let (start, mut settling) = (Instant::now(), Settling::default());
        for n in 0..1000 {
            settling.stir(start + QUIET / 2 * n);
        }
        assert_eq!(settling.over(), Some(start + LIMIT));
    }
}
