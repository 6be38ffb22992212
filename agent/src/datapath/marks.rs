//! SERVICE_MARKS: which addresses the programs on pods' veths look at closely. A mark is set before whatever it announces
//! is written, and never taken back ([`millrace_common::marks`]).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use millrace_common::{
    address::{addr4, addr6},
    flow::loop_address,
    marks::{self, BLOCK_V4, BLOCK_V6, Mark},
};

use super::{Pins, SetupError, pins::at, tables::array, words::SharedArray};

const MAP: &str = "SERVICE_MARKS";
/// A range with more blocks than this, as a power of two, sets every bit: it would set most of them.
const MOST_BLOCKS: u8 = 20;

pub(super) struct ServiceMarks(SharedArray<u64>);

impl ServiceMarks {
    /// A pod's packets to itself have an address of their own, in which nobody's frontends lie.
    ///
    /// # Errors
    /// Names the map if it is missing or of another shape.
    pub(super) fn open(pins: &Pins) -> Result<Self, SetupError> {
        let marks = Self(array(pins, MAP)?.scattered());
        marks
            .set(marks::frontend(&loop_address::V4))
            .and_then(|()| marks.set(marks::frontend(&loop_address::V6)))
            .map_err(at(&pins.map(MAP), "mark"))?;
        Ok(marks)
    }

    /// Before a frontend with this address.
    pub(super) fn frontend(&self, address: IpAddr) -> io::Result<()> {
        self.set(match address {
            IpAddr::V4(ip) => marks::frontend(&addr4(ip)),
            IpAddr::V6(ip) => marks::frontend(&addr6(ip)),
        })
    }

    /// Before a range that services live in.
    pub(super) fn range(&self, cidr: IpNet) -> io::Result<()> {
        match blocks(cidr) {
            Some(marks) => marks.into_iter().try_for_each(|mark| self.set(mark)),
            None => (0..marks::SERVICE_WORDS).try_for_each(|word| self.0.store_word(word, 0, u64::MAX)),
        }
    }

    fn set(&self, mark: Mark) -> io::Result<()> {
        let word = self.0.read(mark.word)?;
        if mark.is_in(word) { Ok(()) } else { self.0.store_word(mark.word, 0, word | mark.bits) }
    }
}

/// The blocks that a range reaches into; `None`: too many to tell one from another.
fn blocks(cidr: IpNet) -> Option<Vec<Mark>> {
    let block = if matches!(cidr, IpNet::V4(_)) { BLOCK_V4 } else { BLOCK_V6 };
    let bits = block.saturating_sub(cidr.prefix_len());
    let mark = |number: u32| match cidr {
        IpNet::V4(net) => {
            let address = net.network().to_bits() | number << (32 - BLOCK_V4);
            marks::block(&addr4(Ipv4Addr::from_bits(address)))
        }
        IpNet::V6(net) => {
            let address = net.network().to_bits() | u128::from(number) << (128 - BLOCK_V6);
            marks::block(&addr6(Ipv6Addr::from_bits(address)))
        }
    };
    (bits <= MOST_BLOCKS).then(|| (0..1 << bits).map(mark).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(cidr: &str, address: &str) -> bool {
        let mark = match address.parse().unwrap() {
            IpAddr::V4(ip) => marks::block(&addr4(ip)),
            IpAddr::V6(ip) => marks::block(&addr6(ip)),
        };
        blocks(cidr.parse().unwrap()).is_none_or(|marks| marks.contains(&mark))
    }

    /// Whether a range is longer or shorter than a block: an address without its block's mark would pass as nobody's.
    #[test]
    fn every_address_of_a_range_lies_in_a_marked_block() {
        let rows = [
            ("10.96.0.0/12", ["10.96.0.0", "10.96.15.255", "10.103.77.1", "10.111.255.255"]),
            ("10.100.0.0/16", ["10.100.0.1", "10.100.16.0", "10.100.128.9", "10.100.255.255"]),
            ("172.20.5.128/25", ["172.20.5.128", "172.20.5.129", "172.20.5.200", "172.20.5.255"]),
            ("0.0.0.0/0", ["0.0.0.1", "10.0.0.1", "192.168.1.1", "255.255.255.255"]),
            ("fd00:10:96::/108", ["fd00:10:96::", "fd00:10:96::1", "fd00:10:96::ffff", "fd00:10:96::f:ffff"]),
            ("fd00:10::/56", ["fd00:10::1", "fd00:10:0:1::1", "fd00:10:0:80::", "fd00:10:0:ff:ffff::"]),
            ("fd00::/8", ["fd00::1", "fd12:3456::1", "fdff::", "fdff:ffff:ffff:ffff::1"]),
        ];
        for (cidr, addresses) in rows {
            addresses.iter().for_each(|address| assert!(has(cidr, address), "{address} in {cidr}"));
        }
    }

    #[test]
    fn what_lies_outside_is_not_marked_with_it() {
        assert!(!has("10.96.0.0/12", "10.112.0.0"));
        assert!(!has("10.100.0.0/16", "192.168.1.11"));
        assert!(!has("fd00:10:96::/108", "fd00:192:168:1::11"));
    }
}
