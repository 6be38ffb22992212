//! Which port a flow has on its way to the backend where it cannot be the client's own: because the source becomes the node's
//! address, or because the client talks from its own to the same backend already, through another frontend.

use crate::select;

/// The first and the number of the ports, as the agent tells the programs: clear of the node ports (30000 and up) and
/// of the ports that the host's own connections have (`net.ipv4.ip_local_port_range` begins at 32768).
pub const FIRST_PORT: u16 = 1024;
pub const LAST_PORT: u16 = 29_999;

/// The ports of a client that keeps its address: clear of those that other nodes hide their clients behind, which are clients
/// here, and of Linux's own choice (from 32768 on). Nobody else's flows are known: a client that binds one of these ports itself,
/// and goes past the service to the same backend from it, is taken for the other if a moved flow was given that very port.
pub const FIRST_KEPT: u16 = 30_000;
pub const LAST_KEPT: u16 = 32_767;

/// Ports that are tried before a flow is refused. With half of all ports to one backend taken, one flow in four thousand
/// million finds none.
pub const PROBES: u32 = 32;

/// The port to try in the `probe`th place, of `count` ports from `first` on: the first is a random one, and so is the
/// distance from each to the next. Searches that meet at a port part again: neighbours would grow into runs of taken
/// ports, which each search that comes upon them keeps in the kernel's LRU.
#[inline(always)]
#[must_use]
pub const fn port(first: u32, count: u32, random: u32, probe: u32) -> u16 {
    let start = select::slot(random, count);
    // All probes together go round once at most, and so meet no port twice.
    let distance = 1 + select::slot(select::mix(random, 0), count / PROBES);
    let offset = start + probe * distance;
    (first + if offset < count { offset } else { offset - count }) as u16
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    extern crate std;

    /// Wherever it begins, a search tries different ports, all of them in the range.
    #[test]
    fn a_search_stays_in_the_range_and_repeats_nothing() {
        let (first, count) = (u32::from(FIRST_PORT), u32::from(LAST_PORT - FIRST_PORT) + 1);
        for random in [0, 1, u32::MAX / 2, u32::MAX - 1, u32::MAX] {
            let tried: BTreeSet<u16> = (0..PROBES).map(|probe| port(first, count, random, probe)).collect();
            assert_eq!(tried.len(), PROBES as usize);
            assert!(tried.iter().all(|port| (FIRST_PORT..=LAST_PORT).contains(port)), "{tried:?}");
        }
    }

    /// Where ports are few, each of them is tried.
    #[test]
    fn the_smallest_range_is_searched_as_a_whole() {
        for random in (0..=u32::MAX).step_by(1 << 22) {
            let tried: BTreeSet<u16> = (0..PROBES).map(|probe| port(1024, PROBES, random, probe)).collect();
            assert_eq!(tried, (1024..1024 + PROBES as u16).collect());
        }
    }

    /// A run of taken ports, longer than a search, is in nobody's way.
    #[test]
    fn a_run_of_taken_ports_is_left_behind() {
        let (first, count) = (u32::from(FIRST_PORT), u32::from(LAST_PORT - FIRST_PORT) + 1);
        let taken = |port: u16| (10_000..10_300).contains(&port);
        let searches = (0..=u32::MAX).step_by(1 << 12);
        let lost = searches.filter(|random| (0..PROBES).all(|probe| taken(port(first, count, *random, probe)))).count();
        // Of a million. By steps of one it would be 9,000.
        assert!(lost < 200, "{lost}");
    }

    /// The first choice is spread over the whole range.
    #[test]
    fn a_search_begins_anywhere() {
        let starts: BTreeSet<u16> = (0..=u32::MAX).step_by(1 << 22).map(|random| port(1024, 64, random, 0)).collect();
        assert_eq!(starts.len(), 64);
    }
}
