//! How many answers of its own (resets, ICMP errors) a CPU may send: a token bucket.

/// Value of ANSWERS, one per CPU.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bucket {
    /// Nanoseconds of CLOCK_MONOTONIC up to which answers are paid for.
    pub paid_until: u64,
}

/// Answers per second and CPU in the long run. Plenty for clients that try again, too few to help an attacker.
pub const PER_SECOND: u64 = 4096;
/// Answers that may come at once.
pub const BURST: u64 = 1024;

const PRICE: u64 = 1_000_000_000 / PER_SECOND;

impl Bucket {
    /// Takes one answer out of the bucket at `now` (nanoseconds of CLOCK_MONOTONIC): false if it is empty.
    #[inline(always)]
    pub fn take(&mut self, now: u64) -> bool {
        let floor = now.saturating_sub(BURST * PRICE);
        let paid = if self.paid_until < floor { floor } else { self.paid_until };
        let allowed = paid + PRICE <= now;
        if allowed {
            self.paid_until = paid + PRICE;
        }
        allowed
    }
}

const _: () = assert!(size_of::<Bucket>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    /// A flood gets the burst, then the rate; after a quiet second the burst is there again.
    #[test]
    fn a_flood_is_answered_at_the_rate() {
        const SECOND: u64 = 1_000_000_000;
        let mut bucket = Bucket::default();
        let flood = |bucket: &mut Bucket, from: u64| {
            (0..100_000u64).filter(|i| bucket.take(from + i * SECOND / 100_000)).count() as u64
        };
        let first = flood(&mut bucket, 10 * SECOND);
        assert!((PER_SECOND + BURST - 2..=PER_SECOND + BURST + 2).contains(&first), "{first}");
        let second = flood(&mut bucket, 11 * SECOND);
        assert!((PER_SECOND - 2..=PER_SECOND + 2).contains(&second), "{second}");
        assert_eq!((0..5000).filter(|_| bucket.take(13 * SECOND)).count() as u64, BURST);
    }
}
