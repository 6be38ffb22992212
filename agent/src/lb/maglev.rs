//! Who has which share of a lookup table (Maglev: Eisenbud et al., NSDI 2016, 3.4). Each endpoint has an order of
//! preference over all places; they take turns, and whoever's turn it is takes the first place of its order that is
//! free. So shares differ by one, and an endpoint that goes leaves its places to the others, who mostly keep theirs.

use std::net::{IpAddr, SocketAddr};

use millrace_common::{
    maglev::{MAX_MEMBERS, size},
    select::mix,
};

/// For each place the endpoint that has it, as an index into `endpoints`, which are sorted and each once. The same on
/// every node: it follows from the addresses and ports alone. Empty where there are none, or more than a table names.
#[must_use]
pub fn table(endpoints: &[SocketAddr]) -> Vec<u16> {
    let members = endpoints.len() as u32;
    if endpoints.is_empty() || endpoints.len() > MAX_MEMBERS as usize {
        return Vec::new();
    }
    let size = size(members);
    let mut preferences: Vec<Preference> = endpoints.iter().map(|endpoint| Preference::of(endpoint, size)).collect();
    let mut places: Vec<Option<u16>> = vec![None; size as usize];
    let mut free = places.len();
    while free > 0 {
        for (member, preference) in (0u16..=u16::MAX).zip(&mut preferences) {
            while places[preference.next as usize].is_some() {
                preference.advance(size);
            }
            places[preference.next as usize] = Some(member);
            free -= 1;
            if free == 0 {
                break;
            }
        }
    }
    places.into_iter().flatten().collect()
}

/// A walk over all places, `skip` at a time: it meets each once, since their number is prime.
struct Preference {
    next: u32,
    skip: u32,
}

impl Preference {
    fn of(endpoint: &SocketAddr, size: u32) -> Self {
        Self { next: hash(endpoint, 0x6f66_6673) % size, skip: hash(endpoint, 0x736b_6970) % (size - 1) + 1 }
    }

    /// A size is far below 2^31.
    fn advance(&mut self, size: u32) {
        self.next = (self.next + self.skip) % size;
    }
}

/// Two seeds give two hashes that have nothing to do with each other.
fn hash(endpoint: &SocketAddr, seed: u32) -> u32 {
    let words = match endpoint.ip() {
        IpAddr::V4(ip) => [ip.to_bits(), 0, 0, 0],
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            [bits as u32, (bits >> 32) as u32, (bits >> 64) as u32, (bits >> 96) as u32]
        }
    };
    let addresses = words.into_iter().fold(seed, mix);
    // Once more at the end, so that the port reaches every bit.
    mix(mix(addresses, endpoint.port().into()), seed)
}
