//! Backend ids: one belongs to one endpoint of one service record, for as long as the endpoint serves.

use std::net::{IpAddr, SocketAddr};

use millrace_common::backend::BackendState;

use super::grace::{Graves, Ticket};

/// In place of a record's index: nobody's.
pub(super) const NOBODY: u32 = u32::MAX;

/// One id. The address is packed: there is one of these for every endpoint of the cluster.
#[derive(Clone, Copy, Debug)]
struct Backend {
    /// As BACKENDS holds it, in two parts.
    epoch: u32,
    serving: bool,
    owner: u32,
    ip: IpAddr,
    port: u16,
}

impl Backend {
    const fn state(&self) -> BackendState {
        BackendState::new(self.epoch, self.serving)
    }

    const fn set_state(&mut self, state: BackendState) {
        (self.epoch, self.serving) = (state.epoch(), state.serving());
    }
}

/// All ids that were ever used. An id that is used again gets the next epoch, so that a flow or an affinity entry that
/// remembers it from before chooses anew.
#[derive(Debug)]
pub(super) struct Backends {
    capacity: u32,
    table: Vec<Backend>,
    free: Vec<u32>,
    graves: Graves<u32>,
}

impl Backends {
    pub(super) fn new(capacity: u32) -> Self {
        Self { capacity, table: Vec::new(), free: Vec::new(), graves: Graves::default() }
    }

    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// An id for an endpoint of the record `owner`, and the state to store for it. `None`: all are taken.
    pub(super) fn allocate(&mut self, owner: u32, address: SocketAddr) -> Option<(u32, BackendState)> {
        let id = match self.free.pop() {
            Some(id) => id,
            None if (self.table.len() as u32) < self.capacity => {
                let id = self.table.len() as u32;
                self.push_unused();
                id
            }
            None => return None,
        };
        let backend = &mut self.table[id as usize];
        (backend.owner, backend.ip, backend.port) = (owner, address.ip(), address.port());
        // Epoch 0 marks an empty entry.
        Some((id, BackendState::new(backend.epoch.wrapping_add(1).max(1), true)))
    }

    /// Gives back an id whose state was never stored.
    pub(super) fn put_back(&mut self, id: u32) {
        self.table[id as usize].owner = NOBODY;
        self.free.push(id);
    }

    /// BACKENDS holds `state` now. An id that stops serving is used again after its grace period: programs may have
    /// read it from a slot.
    pub(super) fn stored(&mut self, id: u32, state: BackendState, ticket: Ticket) {
        let Some(backend) = self.table.get_mut(id as usize) else { return };
        let served = backend.serving;
        backend.set_state(state);
        if served && !state.serving() {
            backend.owner = NOBODY;
            self.graves.bury(ticket, id);
        }
    }

    /// The grace period for `ticket` is over. True when that freed something.
    pub(super) fn reclaim(&mut self, ticket: Ticket) -> bool {
        let before = self.free.len();
        while let Some(id) = self.graves.exhume(ticket) {
            self.free.push(id);
        }
        self.free.len() > before
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.graves.is_empty()
    }

    /// Ids that are neither free nor waiting.
    pub(super) fn in_use(&self) -> u32 {
        (self.table.len() - self.free.len() - self.graves.iter().count()) as u32
    }

    pub(super) fn state(&self, id: u32) -> BackendState {
        self.table.get(id as usize).map_or(BackendState::default(), Backend::state)
    }

    /// Index of the record that the id belongs to, or [`NOBODY`].
    pub(super) fn owner(&self, id: u32) -> u32 {
        self.table.get(id as usize).map_or(NOBODY, |backend| backend.owner)
    }

    pub(super) fn address(&self, id: u32) -> SocketAddr {
        let backend = &self.table[id as usize];
        SocketAddr::new(backend.ip, backend.port)
    }

    /// After a restart: BACKENDS holds `state`. Ids that are not adopted become free with [`Self::free_the_rest`].
    pub(super) fn restore(&mut self, id: u32, state: BackendState) {
        while (self.table.len() as u32) <= id {
            self.push_unused();
        }
        self.table[id as usize].set_state(state);
    }

    /// After a restart: a set of the record `owner` holds the id. False when the id is no such, or another's.
    pub(super) fn adopt(&mut self, id: u32, owner: u32, address: SocketAddr) -> bool {
        if id >= self.capacity {
            return false;
        }
        self.restore(id, self.state(id));
        let backend = &mut self.table[id as usize];
        if backend.owner == owner {
            return SocketAddr::new(backend.ip, backend.port) == address;
        }
        if backend.owner != NOBODY {
            return false;
        }
        (backend.owner, backend.ip, backend.port) = (owner, address.ip(), address.port());
        true
    }

    /// After a restart: ids that nobody adopted and that do not serve are free. Returns those that still serve: their
    /// states must be stored anew.
    pub(super) fn free_the_rest(&mut self) -> Vec<u32> {
        let mut orphans = Vec::new();
        for (id, backend) in (0u32..).zip(&self.table) {
            match (backend.owner, backend.serving) {
                (NOBODY, true) => orphans.push(id),
                (NOBODY, false) => self.free.push(id),
                _ => {}
            }
        }
        // The lowest is used first.
        self.free.reverse();
        orphans
    }

    fn push_unused(&mut self) {
        let ip = IpAddr::from([0, 0, 0, 0]);
        self.table.push(Backend { epoch: 0, serving: false, owner: NOBODY, ip, port: 0 });
    }
}
