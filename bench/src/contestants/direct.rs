//! The baseline: a node without a proxy.

use std::net::IpAddr;

use anyhow::Result;

use super::{Contestant, Memory, Programmed};

pub(super) struct Direct;

impl Contestant for Direct {
    fn version(&self) -> Result<Option<String>> {
        Ok(None)
    }

    fn program(&mut self) -> Result<Programmed> {
        Ok(Programmed::default())
    }

    fn replace(&mut self, _: u32, _: &[IpAddr]) -> Result<()> {
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        Ok(())
    }

    fn memory(&self) -> Result<Memory> {
        Ok(Memory::default())
    }
}
