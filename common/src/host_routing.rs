//! Paths from pod to pod of one node, as the kernel's routes had them a moment ago: asked for again every second, and
//! whenever the agent hears of a change.

use crate::{address::Address, select::mix};

/// Paths that a CPU remembers per family. Two that share a place take turns.
pub const PATHS: u32 = 512;

/// How long a path is taken without asking again, in nanoseconds: routes change behind the back of an agent that is not
/// running.
pub const AGE: u64 = 1_000_000_000;

/// What a path depends on.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PathKey<A> {
    pub source: A,
    pub destination: A,
    /// The device that the packet comes by.
    pub from: u32,
    /// The type of service, as far as routes depend on it.
    pub class: u32,
}

/// An element of PATHS.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Path<A> {
    pub key: PathKey<A>,
    /// What ROUTE_CHANGES said when the kernel was asked.
    pub changes: u64,
    /// CLOCK_MONOTONIC, in nanoseconds: then it is asked again.
    pub until: u64,
    /// The host side of the receiver's veth. 0: by the node's stack.
    pub device: u32,
    /// Bytes, from the network header on, that fit.
    pub mtu: u32,
    /// The device's, then the receiver's.
    pub macs: [u16; 6],
    padding: u32,
}

impl<A: Address> Path<A> {
    /// What the kernel said at `now`.
    #[inline(always)]
    #[must_use]
    pub const fn new(key: PathKey<A>, changes: u64, now: u64) -> Self {
        Self { key, changes, until: now + AGE, device: 0, mtu: 0, macs: [0; 6], padding: 0 }
    }

    /// True while it may be taken for packets of `key`.
    #[inline(always)]
    #[must_use]
    pub fn holds(&self, key: &PathKey<A>, changes: u64, now: u64) -> bool {
        self.changes == changes
            && now < self.until
            && self.key.from == key.from
            && self.key.class == key.class
            && self.key.source == key.source
            && self.key.destination == key.destination
    }
}

impl<A: Address> PathKey<A> {
    /// The element of PATHS that is this key's.
    #[inline(always)]
    #[must_use]
    pub fn place(&self) -> u32 {
        let mut hash = self.from ^ self.class;
        for &word in self.source.as_ref() {
            hash = mix(hash, word);
        }
        for &word in self.destination.as_ref() {
            hash = mix(hash, word);
        }
        hash.wrapping_mul(0xc2b2_ae35) >> (u32::BITS - PATHS.trailing_zeros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Addr4;

    const KEY: PathKey<Addr4> = PathKey { source: [1], destination: [2], from: 7, class: 0 };

    #[test]
    fn a_path_holds_for_a_second_and_until_something_changes() {
        let path = Path::new(KEY, 3, 1_000);
        assert!(path.holds(&KEY, 3, 1_000) && path.holds(&KEY, 3, 999 + AGE));
        assert!(!path.holds(&KEY, 3, 1_000 + AGE), "too old");
        assert!(!path.holds(&KEY, 4, 1_000), "routes have changed");
        assert!(!Path::<Addr4>::default().holds(&PathKey::default(), 1, 0), "an empty place");
    }

    #[test]
    fn a_path_is_taken_by_the_packets_it_was_asked_for_and_no_others() {
        let path = Path::new(KEY, 3, 0);
        for other in [
            PathKey { source: [3], ..KEY },
            PathKey { destination: [3], ..KEY },
            PathKey { from: 8, ..KEY },
            PathKey { class: 8, ..KEY },
        ] {
            assert!(!path.holds(&other, 3, 0), "{other:?}");
        }
    }

    /// Of 512 places, 200 pairs leave about 165 used by one or more.
    #[test]
    fn paths_are_spread_over_their_places() {
        let mut used = [false; PATHS as usize];
        for pod in 0..200u32 {
            let place = PathKey { source: [pod.to_be()], destination: [(pod + 1).to_be()], ..KEY }.place();
            used[place as usize] = true;
        }
        assert!(used.iter().filter(|used| **used).count() > 140);
    }
}
