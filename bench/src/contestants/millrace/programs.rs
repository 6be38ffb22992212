//! What the agent's programs take of the kernel's memory.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use aya::{
    maps::MapData,
    programs::{ProgramInfo, loaded_programs},
};
use millrace_agent::datapath::Pins;
use millrace_common::maps;

/// MiB of all programs that use the maps of these pins, as the verifier left them and as the kernel compiled them. Those of
/// other nodes, which run beside this one, have maps of their own.
pub(super) fn mib(pins: &Pins) -> Result<f64> {
    let id = |name: &str| -> Result<u32> { Ok(MapData::from_pin(pins.map(name))?.info()?.id()) };
    let own =
        maps::ALL.iter().map(|spec| id(spec.name)).collect::<Result<BTreeSet<u32>>>().context("the agent's maps")?;
    // One that is unloaded meanwhile is nobody's here.
    let uses = |program: &ProgramInfo| {
        program.map_ids().ok().flatten().is_some_and(|ids| ids.iter().any(|id| own.contains(id)))
    };
    let mut bytes = 0;
    for program in loaded_programs().filter_map(Result::ok).filter(uses) {
        let locked = program.memory_locked().context("a program's memory")?;
        bytes += u64::from(locked) + u64::from(program.size_jitted());
    }
    ensure!(bytes > 0, "no loaded program uses the maps below {}: is the agent running?", pins.root().display());
    Ok(bytes as f64 / f64::from(1 << 20))
}
