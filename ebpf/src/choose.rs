//! From a frontend to a backend: the same three reads for every hook.

use core::ptr::read_volatile;

use aya_ebpf::{
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns},
    maps::lpm_trie::Key,
};
use millrace_common::{
    address::{Address, Port},
    affinity::{AffinityKey, AffinityValue},
    backend::{BackendState, Slot},
    flow::Tuple,
    frontend::{FrontendKey, FrontendKind, FrontendValue},
    maglev, select,
    service::{Attributes, NoEndpoints, SetWord, SourceRange, inside_uses_local, outside_uses_local},
    verdict::Verdict,
};

use crate::{
    family::Family,
    maps::{BACKENDS, SERVICES},
    stats::count,
};

/// What an address, a port and a protocol mean to this node.
pub(crate) enum Found {
    /// No service's business.
    Nothing,
    /// An address of a service, but not a port that it has.
    OtherPort,
    Frontend(FrontendValue),
}

/// Two hash lookups at most; the second only where the first found nothing.
#[inline(always)]
pub(crate) fn find_frontend<F: Family>(address: F::Address, port: Port, protocol: u8) -> Found {
    // SAFETY: FRONTENDS values are never replaced, and an element is reused only after a grace period.
    if let Some(value) = unsafe { F::frontends().get(FrontendKey::new(address, port, protocol)) } {
        return Found::Frontend(*value);
    }
    // SAFETY: as above.
    match unsafe { F::frontends().get(FrontendKey::owned(address)) } {
        Some(_) => Found::OtherPort,
        None => Found::Nothing,
    }
}

/// A service as one program run sees it: each word read once.
pub(crate) struct Service {
    pub index: u32,
    pub kind: u8,
    pub attributes: Attributes,
    set: SetWord,
}

/// A chosen backend.
#[derive(Clone, Copy)]
pub(crate) struct Backend<A> {
    pub address: A,
    pub port: Port,
    pub id: u32,
    pub epoch: u32,
}

/// Why no backend was chosen.
pub(crate) enum NoBackend {
    /// The service does not use this set: not millrace's traffic.
    Unused,
    Reject,
    Drop,
    /// The client is not in the source ranges that guard this frontend.
    Excluded,
}

impl Service {
    /// The record behind a frontend, for traffic that a pod or a process of this node sends.
    #[inline(always)]
    pub(crate) fn from_inside(frontend: FrontendValue) -> Option<Self> {
        Self::read(frontend, inside_uses_local)
    }

    /// The record behind a frontend, for traffic that comes to the node from outside.
    #[inline(always)]
    pub(crate) fn from_outside(frontend: FrontendValue) -> Option<Self> {
        Self::read(frontend, outside_uses_local)
    }

    #[inline(always)]
    fn read(frontend: FrontendValue, uses_local: impl FnOnce(u8, Attributes) -> bool) -> Option<Self> {
        let Some(record) = SERVICES.get_ptr(frontend.service) else {
            count(Verdict::BugBeyondMap);
            return None;
        };
        // SAFETY: the map gave the pointer. Volatile: the agent stores these words while we look.
        let attributes = Attributes(unsafe { read_volatile(&raw const (*record).attributes) });
        let set = if uses_local(frontend.kind, attributes) {
            // SAFETY: as above.
            unsafe { read_volatile(&raw const (*record).local) }
        } else {
            // SAFETY: as above.
            unsafe { read_volatile(&raw const (*record).cluster) }
        };
        Some(Self { index: frontend.service, kind: frontend.kind, attributes, set: SetWord(set) })
    }

    /// True where only the per-packet path knows enough of the client: its address.
    #[inline(always)]
    pub(crate) fn needs_client_address(&self) -> bool {
        self.attributes.has(Attributes::AFFINITY) || self.is_guarded()
    }

    /// Source ranges guard the load balancer's VIPs, and nothing else.
    #[inline(always)]
    fn is_guarded(&self) -> bool {
        self.kind == FrontendKind::LoadBalancer as u8 && self.attributes.has(Attributes::SOURCE_RANGES)
    }

    #[inline(always)]
    fn lets_in<F: Family>(&self, client: F::Address) -> bool {
        let bits = SourceRange::<F::Address>::SERVICE_BITS + <F::Address as Address>::WORDS as u32 * 32;
        F::source_ranges().get(Key::new(bits, SourceRange { service: self.index, client })).is_some()
    }

    /// A backend for a new connection of `client`: the remembered one under session affinity, else one by the set's
    /// table, else a random one. Without affinity the table asks for the whole `flow`, which a socket does not know.
    #[inline(always)]
    pub(crate) fn choose<F: Family>(
        &self,
        client: F::Address,
        flow: Option<&Tuple<F::Address>>,
    ) -> Result<Backend<F::Address>, NoBackend> {
        if self.is_guarded() && !self.lets_in::<F>(client) {
            return Err(NoBackend::Excluded);
        }
        if self.set.count() == 0 {
            return Err(match self.set.no_endpoints() {
                NoEndpoints::Unused => NoBackend::Unused,
                NoEndpoints::Reject => NoBackend::Reject,
                NoEndpoints::Drop => NoBackend::Drop,
            });
        }
        if !self.attributes.has(Attributes::AFFINITY) {
            return match flow {
                Some(flow) if self.set.has_table() => self.looked_up::<F>(maglev::hash_of_flow(flow)),
                _ => self.random::<F>(),
            };
        }
        let key = AffinityKey { client, service: self.index };
        let now = now_ms();
        let backend = match self.remembered::<F>(&key, now) {
            Some(backend) => backend,
            None if self.set.has_table() => self.looked_up::<F>(maglev::hash_of_client(client))?,
            None => self.random::<F>()?,
        };
        let value = AffinityValue { backend: backend.id, epoch: backend.epoch, last_used: now };
        // A full LRU makes room by itself; if the kernel refuses all the same, this connection is served and
        // merely not remembered.
        let _ = F::affinity().insert(key, value, 0);
        Ok(backend)
    }

    /// Any backend of a set that is not empty.
    #[inline(always)]
    pub(crate) fn random<F: Family>(&self) -> Result<Backend<F::Address>, NoBackend> {
        // SAFETY: a helper without arguments.
        let random = unsafe { bpf_get_prandom_u32() };
        self.backend_at::<F>(select::slot(random, self.set.count())).ok_or(NoBackend::Drop)
    }

    /// The backend that the set's table has for a hash.
    #[inline(always)]
    fn looked_up<F: Family>(&self, hash: u32) -> Result<Backend<F::Address>, NoBackend> {
        let members = self.set.count();
        let place = maglev::place(hash, maglev::size(members));
        let page = self.set.base().wrapping_add(members).wrapping_add(place / maglev::PER_SLOT);
        let Some(page) = F::slots().get_ptr(page) else {
            count(Verdict::BugBeyondMap);
            return Err(NoBackend::Drop);
        };
        let at = (place % maglev::PER_SLOT) as usize;
        // SAFETY: the map gave the pointer, a page is no longer than a slot, and `at` is within it.
        let offset = unsafe { read_volatile(page.cast::<u16>().add(at)) } as u32;
        if offset >= members {
            count(Verdict::BugForeignSlot);
            return Err(NoBackend::Drop);
        }
        self.backend_at::<F>(offset).ok_or(NoBackend::Drop)
    }

    #[inline(always)]
    fn remembered<F: Family>(&self, key: &AffinityKey<F::Address>, now: u64) -> Option<Backend<F::Address>> {
        // SAFETY: a foreign value (the element was reused meanwhile) fails the search in our own set, or names one
        // of our backends, which is as good as a random choice.
        let value = unsafe { *F::affinity().get(key)? };
        if now.saturating_sub(value.last_used) > self.attributes.affinity_seconds() as u64 * 1000
            || !backend_alive(value.backend, value.epoch)
        {
            return None;
        }
        let offset = select::find(self.set.count(), value.backend, |offset| {
            F::slots().get(self.set.base().wrapping_add(offset)).map(|slot| slot.backend)
        })?;
        self.backend_at::<F>(offset)
    }

    #[inline(always)]
    fn backend_at<F: Family>(&self, offset: u32) -> Option<Backend<F::Address>> {
        let Some(slot) = F::slots().get(self.set.base().wrapping_add(offset)) else {
            count(Verdict::BugBeyondMap);
            return None;
        };
        let slot: Slot<F::Address> = *slot;
        if slot.owner != self.index || slot.generation != self.set.generation() {
            count(Verdict::BugForeignSlot);
            return None;
        }
        let epoch = backend_state(slot.backend)?.epoch();
        Some(Backend { address: slot.address, port: slot.port, id: slot.backend, epoch })
    }
}

#[inline(always)]
fn backend_state(id: u32) -> Option<BackendState> {
    let state = BACKENDS.get_ptr(id)?;
    // SAFETY: the map gave the pointer. Volatile: the agent stores this word while we look.
    Some(BackendState(unsafe { read_volatile(state.cast::<u64>()) }))
}

/// True while the backend that was chosen in `epoch` serves.
#[inline(always)]
pub(crate) fn backend_alive(id: u32, epoch: u32) -> bool {
    backend_state(id).is_some_and(|state| state.alive(epoch))
}

/// Milliseconds of CLOCK_MONOTONIC.
#[inline(always)]
pub(crate) fn now_ms() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() / 1_000_000 }
}
