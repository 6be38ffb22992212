//! Who comes after whom. A contestant finds the processor's caches as the one before it leaves them: none may always follow
//! the same one. Pure.

use fastrand::Rng;

/// The same in every run.
const SEED: u64 = 20_260_101;

/// Orders of so many contestants.
pub(super) struct Orders {
    count: usize,
    random: Rng,
}

impl Orders {
    pub(super) fn of(count: usize) -> Self {
        Self { count, random: Rng::with_seed(SEED) }
    }

    /// Each once, in another order than before.
    pub(super) fn next(&mut self) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.count).collect();
        self.random.shuffle(&mut order);
        order
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn everybody_has_a_turn_each_time_and_follows_everybody_else_in_some() {
        let mut orders = Orders::of(6);
        let mut pairs = BTreeSet::new();
        for _ in 0..100 {
            let order = orders.next();
            assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), (0..6).collect());
            pairs.extend(order.windows(2).map(|pair| (pair[0], pair[1])));
        }
        assert_eq!(pairs.len(), 6 * 5);
    }
}
