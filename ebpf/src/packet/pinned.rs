//! A UDP socket of the node that has called connect() is the backend's that the hook chose: no hook sees what it sends
//! from then on. Its datagrams are seen here, on their way out of the node or to the pod. Once that backend no longer
//! serves behind the frontend that the socket named, they go on as if they named the frontend.

use core::ptr::from_ref;

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::{bpf_sk_fullsock, generated::bpf_sk_storage_get},
};
use millrace_common::{
    address::{Port, protocol},
    flow::Tuple,
    frontend::FrontendValue,
    socket::{Datagrams, Translation},
};

use super::{glance, network::Network};
use crate::{
    choose::{Found, backend_alive, find_frontend},
    maps::DATAGRAMS,
};

/// What is left of the frontend that a socket was connected through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// The backend serves, or the socket is nobody's business.
    AsItWas,
    /// Other backends.
    Frontend(FrontendValue),
    /// Nothing: no service has it any more.
    Nothing,
}

/// What is left to the socket that sends `tuple`. A word, for that is what a function of its own can return: see
/// [`unpacked`].
#[inline(never)]
pub(super) fn left<F: Network>(skb: *mut __sk_buff, tuple: &Tuple<F::Address>) -> u64 {
    packed(if tuple.protocol == protocol::UDP {
        look::<F>(skb, tuple.destination, tuple.destination_port)
    } else {
        Left::AsItWas
    })
}

/// True for a plain datagram of a process of this node that its socket's backend is not to get.
#[inline(never)]
pub(super) fn must_leave<F: Network>(skb: *mut __sk_buff) -> bool {
    let Some((plain, [_, port])) = glance::plain::<F>(skb) else { return false };
    plain.protocol == protocol::UDP && look::<F>(skb, plain.destination, port) != Left::AsItWas
}

const AS_IT_WAS: u64 = u64::MAX;
const NOTHING: u64 = u64::MAX - 1;

#[inline(always)]
fn packed(left: Left) -> u64 {
    match left {
        Left::AsItWas => AS_IT_WAS,
        Left::Nothing => NOTHING,
        Left::Frontend(frontend) => (frontend.kind as u64) << 32 | frontend.service as u64,
    }
}

#[inline(always)]
pub(super) fn unpacked(word: u64) -> Left {
    match word {
        AS_IT_WAS => Left::AsItWas,
        NOTHING => Left::Nothing,
        _ => Left::Frontend(FrontendValue { service: word as u32, kind: (word >> 32) as u8, _pad: [0; 3] }),
    }
}

#[inline(always)]
fn look<F: Network>(skb: *mut __sk_buff, destination: F::Address, port: Port) -> Left {
    let Some(datagrams) = datagrams(skb) else { return Left::AsItWas };
    let backend = F::mapped(destination);
    for i in 0..Datagrams::ENTRIES {
        // SAFETY: the map's value; `i` is below ENTRIES. A thread that connects the socket anew may write meanwhile: one
        // datagram goes to either of the two, as it might have, had it been sent a moment earlier or later.
        let translation = unsafe { &(*datagrams).translations[i] };
        if translation.epoch != 0 && translation.backend_port == port && translation.backend == backend {
            return still_there::<F>(translation);
        }
    }
    Left::AsItWas
}

#[inline(always)]
fn still_there<F: Network>(translation: &Translation) -> Left {
    match find_frontend::<F>(F::unmapped(translation.frontend), translation.frontend_port, protocol::UDP) {
        Found::Frontend(frontend)
            if frontend.service == translation.service && backend_alive(translation.backend_id, translation.epoch) =>
        {
            Left::AsItWas
        }
        Found::Frontend(frontend) => Left::Frontend(frontend),
        Found::OtherPort | Found::Nothing => Left::Nothing,
    }
}

/// What the hooks noted of the UDP socket that the packet was sent by, if it is one of this network namespace.
#[inline(always)]
fn datagrams(skb: *mut __sk_buff) -> Option<*const Datagrams> {
    // SAFETY: the context's own field; the kernel keeps the socket for as long as the packet, and the helper answers
    // with null where it is no whole one.
    let socket: *mut bpf_sock = unsafe {
        let socket = (*skb).__bindgen_anon_2.sk;
        if socket.is_null() {
            return None;
        }
        bpf_sk_fullsock(socket)
    };
    // SAFETY: not null, so it is a socket whose fields may be read.
    if socket.is_null() || unsafe { (*socket).protocol } != u32::from(protocol::UDP) {
        return None;
    }
    let map = from_ref(&DATAGRAMS).cast_mut().cast();
    // SAFETY: a map of sockets' storage, and a socket; nothing is made where nothing is.
    let datagrams = unsafe { bpf_sk_storage_get(map, socket.cast(), core::ptr::null_mut(), 0) }.cast::<Datagrams>();
    if datagrams.is_null() { None } else { Some(datagrams) }
}
