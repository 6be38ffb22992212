//! UDP: a socket keeps one choice per frontend for as long as the backend serves. A random choice for each datagram
//! would split exchanges of several datagrams over several backends.

use aya_ebpf::programs::SockAddrContext;
use millrace_common::{
    address::{Addr6, Port},
    socket::{Datagrams, Translation},
};

use crate::{choose::backend_alive, maps::DATAGRAMS};

/// The backend that this socket has for the frontend, if it still serves.
#[inline(always)]
pub(super) fn kept(ctx: &SockAddrContext, frontend: Addr6, port: Port, service: u32) -> Option<Translation> {
    let entry = entry(ctx, |t| t.frontend_port == port && t.service == service && t.frontend == frontend)?;
    if backend_alive(entry.backend_id, entry.epoch) { Some(entry) } else { None }
}

/// The frontend that this socket named when it was given this backend.
#[inline(always)]
pub(super) fn named(ctx: &SockAddrContext, backend: Addr6, port: Port) -> Option<Translation> {
    entry(ctx, |t| t.backend_port == port && t.backend == backend)
}

#[inline(always)]
fn entry(ctx: &SockAddrContext, matches: impl Fn(&Translation) -> bool) -> Option<Translation> {
    // SAFETY: the context's socket is alive during the call.
    let datagrams = unsafe { DATAGRAMS.get_ptr_mut(ctx) };
    if datagrams.is_null() {
        return None;
    }
    for i in 0..Datagrams::ENTRIES {
        // SAFETY: not null, so it is the map's value; `i` is below ENTRIES. Another thread that sends on the same
        // socket may write an entry meanwhile: at worst one datagram is taken for another frontend's and dropped by
        // the application, as UDP allows.
        let translation = unsafe { &(*datagrams).translations[i] };
        if translation.epoch != 0 && matches(translation) {
            return Some(*translation);
        }
    }
    None
}

/// Keeps a choice: over the one that the same frontend had, else over the oldest.
#[inline(always)]
pub(super) fn keep(ctx: &SockAddrContext, translation: Translation) {
    // SAFETY: the context's socket is alive during the call; null asks for a zeroed value.
    let datagrams = unsafe { DATAGRAMS.get_or_insert_ptr_mut(ctx, None) };
    if datagrams.is_null() {
        return;
    }
    for i in 0..Datagrams::ENTRIES {
        // SAFETY: not null, so it is the map's value; `i` is below ENTRIES.
        let old = unsafe { &mut (*datagrams).translations[i] };
        if old.frontend_port == translation.frontend_port && old.frontend == translation.frontend {
            *old = translation;
            return;
        }
    }
    // SAFETY: as above; the mask keeps the index below ENTRIES, which is a power of two.
    unsafe {
        let next = (*datagrams).next as usize & (Datagrams::ENTRIES - 1);
        (*datagrams).translations[next] = translation;
        (*datagrams).next = next as u32 + 1;
    }
}
