//! What XDP remembers of a flow's way on, in the flow's own entry: the next hop's MAC, for a moment. To ask the kernel costs
//! as much as all else that a packet of a known flow needs. A moment ends when the agent hears that a route, a neighbour or
//! a device has changed, and after a second in any case, agent or not.
//!
//! Two words, each written in one store and each with a stamp of its own, so that no mixture of an old and a new way is
//! ever taken for one.

/// A moment: `clock` counts nanoseconds, `changes` what the agent has heard of.
#[inline(always)]
#[must_use]
pub const fn moment(clock: u64, changes: u64) -> u32 {
    // Times an odd number of many bits, or a second that is over would make up for a change.
    ((clock >> 30) as u32).wrapping_add((changes as u32).wrapping_mul(0x9e37_79b9))
}

/// Of a moment, and of the entry's tag: what was meant for another key, whose element this has just been, does not fit.
#[inline(always)]
const fn stamp(moment: u32, tag: u32) -> u16 {
    (moment ^ tag >> 8) as u16
}

/// As [`crate::flow::Flow::way`] has it. `mac`: as it lies in a frame.
#[inline(always)]
#[must_use]
pub const fn to_next_hop(mac: [u16; 3], moment: u32, tag: u32) -> u64 {
    mac[0] as u64 | (mac[1] as u64) << 16 | (mac[2] as u64) << 32 | (stamp(moment, tag) as u64) << 48
}

/// As [`crate::flow::Flow::reach`] has it: `length` bytes from the network header on are known to fit, and so is what
/// `before` says of the same moment.
#[inline(always)]
#[must_use]
pub const fn reaching(length: u16, before: u32, moment: u32, tag: u32) -> u32 {
    let stamp = stamp(moment, tag);
    let known = if (before >> 16) as u16 == stamp { before as u16 } else { 0 };
    (stamp as u32) << 16 | (if known > length { known } else { length }) as u32
}

/// The next hop's MAC, if it was named in this moment, for packets of `length` bytes or more.
#[inline(always)]
#[must_use]
pub const fn next_hop(way: u64, reach: u32, length: u32, moment: u32, tag: u32) -> Option<[u16; 3]> {
    let stamp = stamp(moment, tag);
    // A length is never 0, which is what an entry without a way says.
    if (way >> 48) as u16 != stamp || (reach >> 16) as u16 != stamp || length > (reach & 0xffff) {
        return None;
    }
    Some([way as u16, (way >> 16) as u16, (way >> 32) as u16])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u16; 3] = [0x0102, 0xfffe, 0x8000];

    #[test]
    fn a_moment_ends_with_a_change_and_after_a_second() {
        let stamps = |clock, changes| stamp(moment(clock, changes), 0x1234_5679);
        for changes in [0, 1, 77, u64::MAX] {
            assert_eq!(stamps(0, changes), stamps((1 << 30) - 1, changes));
            assert_ne!(stamps(0, changes), stamps(1 << 30, changes));
            for seconds in 0..1000 {
                assert_ne!(stamps(0, changes), stamps(seconds << 30, changes.wrapping_add(1)), "{seconds} s");
            }
        }
    }

    #[test]
    fn a_way_holds_for_its_moment_its_flow_and_what_fits() {
        for (now, tag) in [(0, 1), (7, 0xffff_ffff), (65_535, 0x1234_5679), (u32::MAX, 3)] {
            let (way, reach) = (to_next_hop(MAC, now, tag), reaching(1400, 0, now, tag));
            assert_eq!(next_hop(way, reach, 1400, now, tag), Some(MAC));
            assert_eq!(next_hop(way, reach, 40, now, tag), Some(MAC));
            assert_eq!(next_hop(way, reach, 1401, now, tag), None, "nobody said that it fits");
            assert_eq!(next_hop(way, reach, 1400, now.wrapping_add(1), tag), None, "the moment is over");
            assert_eq!(next_hop(way, reach, 1400, now, tag ^ 0x0001_0000), None, "another flow");
        }
    }

    /// A new entry is all zeros, which may be a stamp.
    #[test]
    fn an_entry_without_a_way_has_none_in_any_moment() {
        for now in 0..=u32::from(u16::MAX) {
            assert_eq!(next_hop(0, 0, 40, now, 0x1234_5679), None);
        }
    }

    /// Large and small packets come in turn: the large ones are asked for once.
    #[test]
    fn what_fits_is_remembered_for_the_moment() {
        let large = reaching(1400, 0, 9, 77);
        assert_eq!(reaching(40, large, 9, 77), large);
        assert_eq!(reaching(40, large, 10, 77) & 0xffff, 40);
    }

    /// One word of an old way and one of a new.
    #[test]
    fn a_mixture_is_no_way() {
        let (way, reach) = (to_next_hop(MAC, 9, 77), reaching(40, 0, 10, 77));
        assert_eq!(next_hop(way, reach, 40, 9, 77), None);
        assert_eq!(next_hop(way, reach, 40, 10, 77), None);
    }
}
