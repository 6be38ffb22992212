//! Which port a flow from outside has on its way to the backend, where the source becomes the node's address.

/// The first and the number of the ports, as the agent tells the programs: clear of the node ports (30000 and up) and
/// of the ports that the host's own connections have (`net.ipv4.ip_local_port_range` begins at 32768).
pub const FIRST_PORT: u16 = 1024;
pub const LAST_PORT: u16 = 29_999;

/// Ports that are tried before a flow is refused. With half of all ports to one backend taken, one flow in four thousand
/// million finds none.
pub const PROBES: u32 = 32;

/// The port to try in the `probe`th place: those after a random one, round the end of `count` ports from `first` on.
#[inline(always)]
#[must_use]
pub const fn port(first: u32, count: u32, random: u32, probe: u32) -> u16 {
    let start = crate::select::slot(random, count);
    let offset = start + probe;
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

    /// The first choice is spread over the whole range.
    #[test]
    fn a_search_begins_anywhere() {
        let starts: BTreeSet<u16> = (0..=u32::MAX).step_by(1 << 22).map(|random| port(1024, 64, random, 0)).collect();
        assert_eq!(starts.len(), 64);
    }
}
