//! Pods whose calls the socket hooks leave to the programs on their veths. They are known by their cgroups: a process of
//! the pod has the pod's cgroup among the ancestors of its own.

/// Value of PACKET_LEVELS: where among the ancestors of a process's cgroup one of PACKET_CGROUPS may be. A cgroup's level
/// is its distance from the root of the hierarchy.
///
/// ```text
/// first:32 | last:32      both inclusive; 0: nowhere, no pod is chosen
/// ```
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Levels(pub u64);

impl Levels {
    /// No pod is chosen.
    pub const NONE: Self = Self(0);
    /// Levels that a program asks, from the first one on.
    pub const MOST: u32 = 16;

    /// `first` is 1 at least: the root is no pod's.
    #[must_use]
    pub const fn new(first: u32, last: u32) -> Self {
        Self((first as u64) << 32 | last as u64)
    }

    #[must_use]
    pub const fn first(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[must_use]
    pub const fn last(self) -> u32 {
        self.0 as u32
    }

    /// The level to ask after `step` others; `None`: there are no more.
    #[inline(always)]
    #[must_use]
    pub const fn at(self, step: u32) -> Option<u32> {
        let level = self.first().wrapping_add(step);
        if self.0 == 0 || step >= Self::MOST || level > self.last() { None } else { Some(level) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(levels: Levels) -> [Option<u32>; 4] {
        [0, 1, 2, 3].map(|step| levels.at(step))
    }

    #[test]
    fn levels_are_asked_from_the_first_to_the_last_and_no_more_than_programs_may_ask() {
        assert_eq!(asked(Levels::NONE), [None; 4]);
        assert_eq!(asked(Levels::new(2, 3)), [Some(2), Some(3), None, None]);
        let far = Levels::new(3, u32::MAX);
        assert_eq!(far.at(Levels::MOST - 1), Some(Levels::MOST + 2));
        assert_eq!(far.at(Levels::MOST), None);
    }
}
