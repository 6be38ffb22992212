//! A Service that nobody asks: once it is programmed, what was written before it has been read.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::Result;
use aya::maps::{HashMap, Map, MapData};
use millrace_agent::datapath::Pins;
use millrace_common::{
    address::{Addr4, Port as WirePort, addr4, protocol},
    frontend::{FrontendKey, FrontendValue},
};

use crate::manifests::{Manifests, Port, Service};

const PORT: u16 = 1;

/// By its frontend, which the programs are told last of a Service.
#[derive(Debug)]
pub struct Mark(Ipv4Addr);

impl Mark {
    /// Writes one that was never used before, in place of the last.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(manifests: &Manifests) -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let [high, low] = number.to_be_bytes();
        let address = Ipv4Addr::new(10, 97, high, low);
        let service = Service {
            name: format!("mark-{number}"),
            cluster_ips: vec![IpAddr::V4(address)],
            ports: vec![Port { name: "mark".into(), protocol: "TCP".into(), port: PORT, target: 1, node_port: 0 }],
            ..Service::default()
        };
        manifests.apply("mark.yaml", &service.objects())?;
        Ok(Self(address))
    }

    /// False while there are no maps. One lookup: who waits for an agent to start must not take its processor.
    pub(crate) fn is_programmed(&self, bpffs: &Path) -> bool {
        let Ok(map) = MapData::from_pin(Pins::at(bpffs).map("FRONTENDS_V4")) else { return false };
        let Ok(map) = HashMap::<_, FrontendKey<Addr4>, FrontendValue>::try_from(Map::HashMap(map)) else {
            return false;
        };
        let key = FrontendKey::new(addr4(self.0), WirePort::new(PORT), protocol::TCP);
        map.get(&key, 0).is_ok()
    }
}
