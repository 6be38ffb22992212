//! Keeps the programs told of the node's own addresses, and says in the log which one backends see, or that there is none.

use std::{collections::BTreeSet, net::IpAddr};

use tokio::sync::watch as latest;
use tracing::{info, warn};

use crate::{
    datapath::{OwnAddressTables, TableError},
    lb::{Family, OwnAddresses},
};

pub(super) struct Telling {
    tables: OwnAddressTables,
    /// Who looks which devices have them.
    one: latest::Sender<BTreeSet<IpAddr>>,
    /// Families in which clients outside cannot be sent on, as the log has it.
    lacking: BTreeSet<Family>,
    said: Option<OwnAddresses>,
}

impl Telling {
    pub(super) fn new(tables: OwnAddressTables, one: latest::Sender<BTreeSet<IpAddr>>) -> Self {
        Self { tables, one, lacking: BTreeSet::new(), said: None }
    }

    /// Costs nothing where nothing has changed.
    ///
    /// # Errors
    /// What the kernel refused; to be tried again.
    pub(super) fn tell(&mut self, wanted: &OwnAddresses) -> Result<(), TableError> {
        if self.said.as_ref() != Some(wanted) {
            self.say(wanted);
            self.one.send_replace(ones(wanted));
        }
        if self.tables.held() == wanted { Ok(()) } else { self.tables.apply(wanted) }
    }

    fn say(&mut self, wanted: &OwnAddresses) {
        let before = self.said.replace(wanted.clone()).unwrap_or_default();
        for family in [Family::V4, Family::V6] {
            let one = wanted.one(family);
            if let Some(address) = one.filter(|_| one != before.one(family)) {
                info!(%address, "the node's address, as a client and to backends of clients outside");
            }
            let lacks = wanted.lacks(family, &before) || one.is_none() && self.lacking.contains(&family);
            if lacks && self.lacking.insert(family) {
                warn!(
                    family = family.name(),
                    "no address of the node's own: clients outside whose backend is on another node are refused \
                     (drop_no_node_address) until it has one, on a device that leads out of it, or is told one with --node-ip"
                );
            } else if !lacks {
                self.lacking.remove(&family);
            }
        }
    }
}

/// Those that the rest of the cluster knows the node by.
pub(super) fn ones(own: &OwnAddresses) -> BTreeSet<IpAddr> {
    own.v4.into_iter().chain(own.v6).collect()
}
