//! The maps that tell the programs which addresses are the node's own.

use std::{collections::BTreeSet, io, net::IpAddr};

use aya::{
    Pod,
    maps::{HashMap, MapData},
};
use millrace_common::{
    address::{Addr4, Addr6, Address, addr4, addr6},
    node::OwnAddress,
};

use super::{
    Pins, SetupError, TableError,
    error::map_error,
    grace::Grace,
    tables::{absent_is_fine, array, hash},
    words::SharedArray,
};
use crate::lb::{Family, OwnAddresses};

const ONE: &str = "NODE_ADDRESS";
const ALL: [&str; 2] = ["NODE_ADDRESSES_V4", "NODE_ADDRESSES_V6"];
const WITHDRAWALS: &str = "WITHDRAWALS";

/// The maps of one bpffs path, open for writing, and what they hold.
pub struct OwnAddressTables {
    one: SharedArray<OwnAddress>,
    v4: HashMap<MapData, Addr4, u32>,
    v6: HashMap<MapData, Addr6, u32>,
    withdrawals: SharedArray<u64>,
    grace: Grace,
    held: OwnAddresses,
}

impl OwnAddressTables {
    /// With what an earlier agent left in them.
    ///
    /// # Errors
    /// Names the map.
    pub fn open(pins: &Pins, grace: Grace) -> Result<Self, SetupError> {
        let (v4, v6) = (hash(pins, ALL[0])?, hash(pins, ALL[1])?);
        let all = keys(&v4, ALL[0])?.into_iter().chain(keys(&v6, ALL[1])?).collect();
        let mut tables = Self {
            one: array(pins, ONE)?,
            v4,
            v6,
            withdrawals: array(pins, WITHDRAWALS)?,
            grace,
            held: OwnAddresses { all, ..OwnAddresses::default() },
        };
        let read = |index| tables.one.read(index);
        let own = read(0).and_then(|first| read(first.current as u32));
        let own = own.map_err(|source| SetupError::Path { path: pins.map(ONE), operation: "reading", source })?;
        (tables.held.v4, tables.held.v6) = (said(own.v4), said(own.v6));
        Ok(tables)
    }

    #[must_use]
    pub fn held(&self) -> &OwnAddresses {
        &self.held
    }

    /// What is new first, then the one address of each family, then what is gone: at no time do the programs ask a backend
    /// from an address that they do not take for the node's. Waits for a grace period if that address changes.
    ///
    /// # Errors
    /// What the kernel refused first; ask again.
    pub fn apply(&mut self, wanted: &OwnAddresses) -> Result<(), TableError> {
        for ip in &wanted.all - &self.held.all {
            self.insert(ip).map_err(refused(map_of(ip), "insert"))?;
            self.held.all.insert(ip);
        }
        if (wanted.v4, wanted.v6) != (self.held.v4, self.held.v6) {
            self.flip(wanted).map_err(refused(ONE, "store"))?;
            (self.held.v4, self.held.v6) = (wanted.v4, wanted.v6);
        }
        let gone = &self.held.all - &wanted.all;
        for ip in &gone {
            absent_is_fine(match ip {
                IpAddr::V4(v4) => self.v4.remove(&addr4(*v4)),
                IpAddr::V6(v6) => self.v6.remove(&addr6(*v6)),
            })
            .map_err(refused(map_of(*ip), "delete"))?;
        }
        if !gone.is_empty() {
            // Datagrams whose answers went there begin anew. An attempt that ends before this is made again.
            let count = self.withdrawals.read(0).and_then(|count| self.withdrawals.store_word(0, 0, count + 1));
            count.map_err(refused(WITHDRAWALS, "store"))?;
            self.held.all.retain(|ip| !gone.contains(ip));
        }
        Ok(())
    }

    fn insert(&mut self, ip: IpAddr) -> io::Result<()> {
        match ip {
            IpAddr::V4(v4) => self.v4.insert(addr4(v4), 1, 0),
            IpAddr::V6(v6) => self.v6.insert(addr6(v6), 1, 0),
        }
        .map_err(map_error)
    }

    /// Writes the value that is not in force, once whoever may have begun to read it before the last flip has ended.
    fn flip(&self, wanted: &OwnAddresses) -> io::Result<()> {
        self.grace.wait()?;
        let current = self.one.read(0)?.current;
        let next = (current as u32 + 1) % 2;
        let (v4, v6) = (wanted.v4.and_then(Addr4::from_ip), wanted.v6.and_then(Addr6::from_ip));
        // Where the first value is written, `current` stays as it is until the store.
        let own = OwnAddress { current, v4: v4.unwrap_or_default(), v6: v6.unwrap_or_default(), _pad: 0 };
        self.one.write(next, own)?;
        self.one.store_word(0, 0, u64::from(next))
    }
}

fn said<A: Address>(address: A) -> Option<IpAddr> {
    (address != A::default()).then(|| address.to_ip())
}

fn keys<A: Address + Pod>(map: &HashMap<MapData, A, u32>, name: &str) -> Result<BTreeSet<IpAddr>, SetupError> {
    map.keys().map(|key| key.map(A::to_ip)).collect::<Result<_, _>>().map_err(|source| SetupError::Map {
        map: name.to_owned(),
        operation: "read",
        source,
    })
}

const fn map_of(ip: IpAddr) -> &'static str {
    ALL[Family::of(ip) as usize]
}

fn refused(map: &'static str, operation: &str) -> impl Fn(io::Error) -> TableError {
    move |source| TableError { map, operation: operation.to_owned(), source }
}
