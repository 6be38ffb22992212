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
    let datagrams = datagrams(ctx)?;
    let ours = |t: &Translation| t.frontend_port == port && t.service == service && t.frontend == frontend;
    let (i, entry) = find(datagrams, ours)?;
    if !backend_alive(entry.backend_id, entry.epoch) {
        return None;
    }
    // SAFETY: the map's value.
    unsafe { (*datagrams).last = i };
    Some(entry)
}

/// The frontend that this socket named when it was given this backend; of several the one that it named last.
#[inline(always)]
pub(super) fn named(ctx: &SockAddrContext, backend: Addr6, port: Port) -> Option<Translation> {
    let datagrams = datagrams(ctx)?;
    let matches = |t: &Translation| t.backend_port == port && t.backend == backend;
    // SAFETY: the map's value; the mask keeps the index below ENTRIES, which is a power of two.
    let last = unsafe { (*datagrams).translations[(*datagrams).last as usize & (Datagrams::ENTRIES - 1)] };
    if last.epoch != 0 && matches(&last) {
        return Some(last);
    }
    find(datagrams, matches).map(|(_, entry)| entry)
}

/// The socket talks to this address itself: answers from there are no frontend's.
#[inline(always)]
pub(super) fn forget(ctx: &SockAddrContext, backend: Addr6, port: Port) {
    let Some(datagrams) = datagrams(ctx) else { return };
    for i in 0..Datagrams::ENTRIES {
        // SAFETY: the map's value; `i` is below ENTRIES.
        let entry = unsafe { &mut (*datagrams).translations[i] };
        if entry.backend_port == port && entry.backend == backend {
            entry.epoch = 0;
        }
    }
}

/// What this socket has, if anything.
#[inline(always)]
fn datagrams(ctx: &SockAddrContext) -> Option<*mut Datagrams> {
    // SAFETY: the context's socket is alive during the call.
    let datagrams = unsafe { DATAGRAMS.get_ptr_mut(ctx) };
    if datagrams.is_null() { None } else { Some(datagrams) }
}

#[inline(always)]
fn find(datagrams: *mut Datagrams, matches: impl Fn(&Translation) -> bool) -> Option<(u32, Translation)> {
    for i in 0..Datagrams::ENTRIES {
        // SAFETY: the map's value; `i` is below ENTRIES. Another thread that sends on the same socket may write an entry
        // meanwhile: at worst one datagram is taken for another frontend's and dropped by the application, as UDP
        // allows.
        let translation = unsafe { &(*datagrams).translations[i] };
        if translation.epoch != 0 && matches(translation) {
            return Some((i as u32, *translation));
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
            // SAFETY: as above.
            unsafe { (*datagrams).last = i as u32 };
            return;
        }
    }
    // SAFETY: as above; the mask keeps the index below ENTRIES, which is a power of two.
    unsafe {
        let next = (*datagrams).next as usize & (Datagrams::ENTRIES - 1);
        (*datagrams).translations[next] = translation;
        (*datagrams).next = next as u32 + 1;
        (*datagrams).last = next as u32;
    }
}
