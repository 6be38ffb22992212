//! Strangers' flows, so that the tables of flows are alike at every size: what a packet costs among few services must not
//! be flattered by a table that is nearly empty.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use aya::maps::{HashMap, MapData};
use millrace_common::{
    address::{Address, Port, addr4, addr6, protocol},
    flow::{Flow, Tuple},
};
use millrace_tests::address::twin;

use super::stage::Programs;

/// Entries of other flows in each family's table, `count` of them.
pub(super) fn with_strangers(programs: &Programs, count: u32) -> Result<()> {
    write("CT_V4", programs, count, addr4)?;
    write("CT_V6", programs, count, |v4| addr6(twin(v4)))
}

fn write<A>(name: &str, programs: &Programs, count: u32, address: impl Fn(Ipv4Addr) -> A) -> Result<()>
where
    A: Address,
    Tuple<A>: aya::Pod,
    Flow<A>: aya::Pod,
{
    let mut table: HashMap<MapData, Tuple<A>, Flow<A>> = programs.map(name)?.try_into()?;
    for number in 0..count {
        let client = Ipv4Addr::from(u32::from(Ipv4Addr::new(11, 0, 0, 0)) + number);
        let tuple = Tuple {
            source: address(client),
            destination: address(Ipv4Addr::new(12, 0, 0, 1)),
            source_port: Port::new(40_000),
            destination_port: Port::new(80),
            protocol: protocol::TCP,
            ..Tuple::default()
        };
        table.insert(tuple, Flow::default(), 0).with_context(|| format!("cannot write to {name}"))?;
    }
    Ok(())
}
