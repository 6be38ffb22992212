//! `status`: is the data path in place, and how full are the maps?

use anyhow::Result;

use super::{
    Reading,
    output::{self, Format, Row},
};
use crate::datapath::{Occupancy, status};

impl Row for Occupancy {
    const HEADER: &'static [&'static str] = &["MAP", "USED", "ENTRIES", "MIB"];

    fn cells(&self) -> Vec<String> {
        let used = self.used.map_or_else(|| "-".to_owned(), |used| used.to_string());
        vec![self.map.to_owned(), used, self.entries.to_string(), format!("{:.2}", self.mib)]
    }
}

pub(super) fn print(reading: &Reading) -> Result<()> {
    let status = status(&reading.pins()?)?;
    if reading.output == Format::Json {
        return output::line(&serde_json::to_string_pretty(&status)?);
    }
    let hooks = status.hooks.join(" ");
    let agent =
        if status.agent_running { "running" } else { "not running: the data path works, but follows no change" };
    output::line(&format!("bpffs         {}", reading.place.bpffs.display()))?;
    output::line(&format!("agent         {agent}"))?;
    output::line(&format!("layout        {}", status.layout))?;
    output::line(&format!("socket hooks  {}", if hooks.is_empty() { "none" } else { &hooks }))?;
    let (links, filtered) = (status.device_links, status.filtered_devices);
    output::line(&format!("devices       {links} programs by links; programs of {filtered} devices by clsact"))?;
    let xdp = status.xdp_links.iter().map(|link| format!("{} (device {})", link.mode, link.index)).collect::<Vec<_>>();
    output::line(&format!("XDP           {}", if xdp.is_empty() { "off".to_owned() } else { xdp.join(", ") }))?;
    output::line(&format!("service ports {}", status.service_ports))?;
    output::line(&format!("kernel memory {:.2} MiB\n", status.maps.iter().map(|map| map.mib).sum::<f64>()))?;
    output::print(reading.output, &status.maps, "no maps")
}
