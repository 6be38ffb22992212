//! One contestant on its node, with a client that waits for orders, and the figures so far.

use std::{net::SocketAddr, rc::Rc};

use anyhow::{Context, Result};
use millrace_agent::lb::Family;

use crate::{
    cluster::{Clients, Cluster, PORT, cluster_ip},
    contestants::{self, Contestant, Kind, Tooling},
    probe::client::Target,
    report::{Destination, Figures, Participant},
    topology::{Client, Topology},
};

pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) figures: Figures,
    participant: Participant,
    // What is used goes after who uses it.
    client: Option<Client>,
    pub(super) contestant: Box<dyn Contestant>,
    topology: Rc<Topology>,
}

/// Whether a contestant can take part.
pub(super) enum Entry {
    Stage(Box<Stage>),
    Absent(Participant),
}

impl Entry {
    pub(super) fn participant(&self) -> Participant {
        match self {
            Self::Stage(stage) => stage.participant.clone(),
            Self::Absent(participant) => participant.clone(),
        }
    }
}

impl Stage {
    /// Sets a contestant up on a node of its own; no service is programmed yet.
    pub(super) fn enter(kind: Kind, cluster: Cluster, tooling: &Tooling) -> Result<Entry> {
        let topology = Rc::new(Topology::create(cluster.clients)?);
        let Some(contestant) = contestants::create(kind, &topology, cluster, tooling)? else {
            let absent = Some("this kernel does not have it".to_owned());
            return Ok(Entry::Absent(Participant { kind, version: None, absent }));
        };
        let participant = Participant { kind, version: contestant.version()?, absent: None };
        let figures = Figures::of(kind);
        let stage = Self { cluster, figures, participant, client: None, contestant, topology };
        Ok(Entry::Stage(Box::new(stage)))
    }

    /// The client in the client pod; it starts with the first question.
    pub(super) fn client(&mut self) -> Result<&mut Client> {
        if self.client.is_none() {
            self.client = Some(self.topology.client(&self.targets()?)?);
        }
        self.client.as_mut().ok_or_else(|| anyhow::anyhow!("no client"))
    }

    /// In the first of the families. Without a proxy all destinations are the endpoints: each has its counterpart at the
    /// same place of a turn, with caches as cold or warm.
    fn targets(&self) -> Result<Vec<Target>> {
        let family = self.cluster.families.each()[0];
        let addresses = |destination| -> Result<Vec<SocketAddr>> {
            match destination {
                Destination::Service(position) if self.figures.kind != Kind::Direct => {
                    Ok(vec![self.frontend(self.cluster.at(position), family)?])
                }
                _ => Ok(self.topology.direct(family == Family::V6)),
            }
        };
        let target = |destination: &Destination| -> Result<Target> {
            Ok(Target { label: destination.name().to_owned(), addresses: addresses(*destination)? })
        };
        Destination::ALL.iter().map(target).collect()
    }

    /// Where the clients call service `i`.
    fn frontend(&self, i: u32, family: Family) -> Result<SocketAddr> {
        Ok(match self.cluster.clients {
            Clients::Pods => SocketAddr::new(cluster_ip(i, family), PORT),
            Clients::Outside | Clients::Through => {
                let mut addresses = self.topology.node()?.addresses().into_iter();
                let address = addresses.find(|address| Family::of(*address) == family);
                let address = address.context("the node has no address in the family")?;
                SocketAddr::new(address, self.cluster.node_port(i))
            }
        })
    }
}
