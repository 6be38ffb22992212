//! Maglev's lookup table (Eisenbud et al., NSDI 2016, 3.4): the hash of a flow names a place in it, the place a member
//! of the set. The table of a block of SLOTS lies right behind it, so that one store flips both.

use crate::{
    address::Address,
    flow::Tuple,
    select::{mix, slot},
};

/// Members that a table can name. Larger sets have none.
pub const MAX_MEMBERS: u32 = 1 << 16;

/// Entries of a table in one slot of SLOTS, of either family.
pub const PER_SLOT: u32 = 8;

/// What a slot holds in place of a backend: offsets into the set's block.
pub type Page = [u16; PER_SLOT as usize];

/// Entries of the table of a set of `members`: a prime about a hundred times as large, so that the members' shares
/// differ by a percent or two, and with the block a power of two in slots, as the arena hands them out. Few sizes, each
/// four times the one before: every step to another one moves nearly all flows.
#[inline(always)]
#[must_use]
pub const fn size(members: u32) -> u32 {
    match members {
        0..=9 => 947,
        10..=37 => 3_797,
        38..=151 => 15_173,
        152..=606 => 60_679,
        607..=2_427 => 242_713,
        _ => 524_287,
    }
}

/// Slots that the table of a set of `members` takes.
#[inline(always)]
#[must_use]
pub const fn slots(members: u32) -> u32 {
    size(members).div_ceil(PER_SLOT)
}

/// The place in a table of `size` entries that a hash names.
#[inline(always)]
#[must_use]
pub const fn place(hash: u32, size: u32) -> u32 {
    slot(hash, size)
}

/// Of a packet as it arrives: the same on every node that it may arrive at.
#[inline(always)]
#[must_use]
pub fn hash_of_flow<A: Address>(tuple: &Tuple<A>) -> u32 {
    let addresses = tuple.source.as_ref().iter().chain(tuple.destination.as_ref());
    let hash = addresses.fold(SEED, |hash, &word| mix(hash, word));
    let ports = (tuple.source_port.network() as u32) << 16 | tuple.destination_port.network() as u32;
    finish(mix(mix(hash, ports), tuple.protocol as u32))
}

/// Of a client, whatever it names: under session affinity all its flows have one backend, on every node.
#[inline(always)]
#[must_use]
pub fn hash_of_client<A: Address>(client: A) -> u32 {
    finish(client.as_ref().iter().fold(SEED, |hash, &word| mix(hash, word)))
}

/// Part of what nodes must agree on: another value moves every flow.
const SEED: u32 = 0x6d61_676c;

/// Lets every bit count for the upper ones, which choose the place (the finalizer of MurmurHash3).
#[inline(always)]
const fn finish(hash: u32) -> u32 {
    let hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

const _: () = assert!(size_of::<Page>() <= size_of::<crate::backend::Slot<crate::address::Addr4>>());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Port, addr4, protocol};
    use core::net::Ipv4Addr;

    fn is_prime(number: u32) -> bool {
        (2..).take_while(|factor| factor * factor <= number).all(|factor| !number.is_multiple_of(factor))
    }

    /// The permutations of the members meet every place only in a table of prime size; block and table fill a block of
    /// the arena, and little of it is left over.
    #[test]
    fn tables_are_of_prime_size_and_fit_the_arena() {
        for (members, block) in
            [(9, 128), (37, 512), (151, 2_048), (606, 8_192), (2_427, 32_768), (MAX_MEMBERS, 131_072)]
        {
            assert!(is_prime(size(members)), "{}", size(members));
            assert!((block - 1..=block).contains(&(members + slots(members))), "{members} members");
        }
    }

    /// Ports that a client uses one after another are spread over the whole table.
    #[test]
    fn neighbouring_flows_are_spread() {
        let mut seen = [0u32; 16];
        for port in 40_000..41_600 {
            let flow = Tuple {
                source: addr4(Ipv4Addr::new(192, 168, 1, 12)),
                destination: addr4(Ipv4Addr::new(10, 96, 0, 10)),
                source_port: Port::new(port),
                destination_port: Port::new(80),
                protocol: protocol::UDP,
                ..Tuple::default()
            };
            seen[place(hash_of_flow(&flow), 16) as usize] += 1;
        }
        // A hundred each; five standard deviations are fifty.
        assert!(seen.iter().all(|share| (50..150).contains(share)), "{seen:?}");
    }

    /// And so are clients with neighbouring addresses.
    #[test]
    fn neighbouring_clients_are_spread() {
        let mut seen = [0u32; 16];
        for host in 0..1600u32 {
            let [_, _, high, low] = host.to_be_bytes();
            seen[place(hash_of_client(addr4(Ipv4Addr::new(10, 1, high, low))), 16) as usize] += 1;
        }
        assert!(seen.iter().all(|share| (50..150).contains(share)), "{seen:?}");
    }
}
