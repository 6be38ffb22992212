//! How many Events an agent may write: every node of a cluster sees the same wrong object, and an object that is wrong may
//! change many times a minute. Pure: the time is an argument.

use std::time::{Duration, Instant};

use foldhash::HashMap;

use crate::watch::ObjectKey;

/// Of one object, within [`WINDOW`].
const OF_AN_OBJECT: usize = 3;
const WINDOW: Duration = Duration::from_secs(3600);
/// Of all objects at once, and one more after each [`REFILL`].
const BURST: u32 = 32;
const REFILL: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Allowance {
    /// When Events were written, by object: no more objects than the refill allows within the window.
    written: HashMap<ObjectKey, Vec<Instant>>,
    left: u32,
    /// Up to when `left` has been counted.
    filled: Instant,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self { written: HashMap::default(), left: BURST, filled: now }
    }

    /// Whether an Event of the object may be written; it counts as written then.
    pub(super) fn admit(&mut self, object: &ObjectKey, now: Instant) -> bool {
        self.refill(now);
        self.written.retain(|_, times| {
            times.retain(|time| now.duration_since(*time) < WINDOW);
            !times.is_empty()
        });
        if self.left == 0 || self.written.get(object).is_some_and(|times| times.len() >= OF_AN_OBJECT) {
            return false;
        }
        self.left -= 1;
        self.written.entry(object.clone()).or_default().push(now);
        true
    }

    fn refill(&mut self, now: Instant) {
        let earned = (now.duration_since(self.filled).as_secs() / REFILL.as_secs()).try_into().unwrap_or(BURST);
        self.filled += REFILL * earned;
        self.left = self.left.saturating_add(earned).min(BURST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServiceKey;

    fn service(number: usize) -> ObjectKey {
        ObjectKey::Service(ServiceKey::new("shop", &format!("s{number}")))
    }

    fn admitted(allowance: &mut Allowance, objects: impl Iterator<Item = usize>, at: Instant) -> usize {
        objects.filter(|number| allowance.admit(&service(*number), at)).count()
    }

    #[test]
    fn an_object_gets_a_few_an_hour_however_often_it_is_wrong() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let minutes = |n: u64| start + Duration::from_secs(n * 60);
        assert_eq!(admitted(&mut allowance, std::iter::repeat_n(1, 100), start), OF_AN_OBJECT);
        assert_eq!(admitted(&mut allowance, std::iter::repeat_n(1, 100), minutes(59)), 0);
        assert_eq!(admitted(&mut allowance, [2].into_iter(), minutes(59)), 1, "another object");
        assert_eq!(admitted(&mut allowance, std::iter::repeat_n(1, 100), minutes(61)), OF_AN_OBJECT);
    }

    #[test]
    fn all_objects_together_get_a_burst_and_then_one_at_a_time() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        assert_eq!(admitted(&mut allowance, 0..10_000, start), BURST as usize);
        assert_eq!(admitted(&mut allowance, 10_000..20_000, start + REFILL / 2), 0);
        assert_eq!(admitted(&mut allowance, 20_000..30_000, start + REFILL * 2), 2);
        assert_eq!(admitted(&mut allowance, 30_000..40_000, start + WINDOW * 100), BURST as usize);
        assert!(allowance.written.len() <= BURST as usize, "what is long past is forgotten");
    }
}
