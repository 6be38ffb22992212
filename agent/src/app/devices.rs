//! Attaches to devices as they appear, and tells the node's addresses to the decision loop.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Result, bail};
use tokio::sync::mpsc;
use tracing::warn;

use crate::datapath::{Attacher, Loaded, devices::DeviceEvent};

pub(super) struct Devices {
    loaded: Loaded,
    attacher: Attacher,
    heard: mpsc::Receiver<DeviceEvent>,
}

impl Devices {
    pub(super) fn new(loaded: Loaded, attacher: Attacher, heard: mpsc::Receiver<DeviceEvent>) -> Self {
        Self { loaded, attacher, heard }
    }

    /// Attaches to all devices that are there, and returns the node's addresses: they end what is said at the start.
    /// All programs are in place then, so maps of another size can become the pinned ones.
    pub(super) async fn attach_all(&mut self) -> Result<BTreeSet<IpAddr>> {
        while let Some(event) = self.heard.recv().await {
            if let Some(addresses) = self.act(event) {
                self.loaded.settle()?;
                return Ok(addresses);
            }
        }
        bail!("the node's devices cannot be listed through rtnetlink")
    }

    /// Goes on until nobody listens.
    pub(super) async fn follow(mut self, told: mpsc::Sender<BTreeSet<IpAddr>>) -> Result<()> {
        while let Some(event) = self.heard.recv().await {
            if let Some(addresses) = self.act(event)
                && told.send(addresses).await.is_err()
            {
                break;
            }
        }
        Ok(())
    }

    /// One device that cannot be attached to must not keep the others from it: it is named, its traffic goes by.
    fn act(&mut self, event: DeviceEvent) -> Option<BTreeSet<IpAddr>> {
        let result = match event {
            DeviceEvent::Attach { index, name } => self.attacher.attach(&mut self.loaded.ebpf, index, &name),
            DeviceEvent::Release { index, vanished } => self.attacher.release(index, vanished),
            DeviceEvent::Addresses(addresses) => return Some(addresses),
        };
        if let Err(error) = result {
            warn!(%error, "a device is without its programs");
        }
        None
    }
}
