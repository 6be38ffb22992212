//! From pod to pod of one node, past the node's stack: the kernel's own routes, rules and neighbours say where a packet
//! goes, and it is handed to the pod there without the way through the stack and the device before it. Whatever is out of
//! the ordinary goes by the stack, and everything while the agent sees a reason for it
//! ([`millrace_common::host_routing`]).

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS},
    helpers::bpf_redirect_peer,
    programs::sk_buff::SkBuff,
};
use millrace_common::{
    address::{Port, protocol},
    checksum::Sum,
    header::{ether, tcp},
    host_routing::{Path, PathKey},
    verdict::Verdict,
};

use super::{
    DROP, NEXT,
    deliver::Lookup,
    flow,
    frame::{Buffer, Frame as _},
    glance::{self, Plain},
    incoming,
    network::Network,
};
use crate::{
    maps::{HOST_ROUTING, POD_DEVICES, ROUTE_CHANGES},
    stats::count,
};

/// What is read of a packet.
struct Headers<F: Network> {
    plain: Plain<F::Address>,
    /// As they lie there, source first.
    ports: [u16; 2],
    class: u32,
}

/// Sends on a packet of a pod, if it is for another pod here.
#[inline(always)]
pub(super) fn send_on<F: Network>(skb: *mut __sk_buff) -> i32 {
    let found = find::<F>(skb);
    if found == BY_THE_STACK {
        return NEXT;
    }
    // The receiver's own program is passed by: what it would do is done here.
    if found & AWAITED != 0 {
        match incoming::<F>(skb, ether::HEADER) {
            NEXT => {}
            verdict => return verdict,
        }
    }
    hand_over::<F>(skb, found & !AWAITED)
}

/// Of [`find`].
const BY_THE_STACK: u32 = u32::MAX;
/// Of [`find`]: the packet may answer what the receiver asked of a service.
const AWAITED: u32 = 1 << 31;

/// The element of PATHS that the packet takes.
// A function of its own: its stack is free again for those who look closely.
#[inline(never)]
fn find<F: Network>(skb: *mut __sk_buff) -> u32 {
    let now = flow::clock();
    if !is_allowed(now) || !is_ordinary::<F>(skb) {
        return BY_THE_STACK;
    }
    // Before the kernel is asked: what changes meanwhile is heeded by the next packet.
    let changes = changes();
    let Some(headers) = read::<F>(skb) else { return BY_THE_STACK };
    let Plain { source, destination, protocol } = headers.plain;
    // SAFETY: the context's own field.
    let key = PathKey { source, destination, from: unsafe { (*skb).ifindex }, class: headers.class };
    let place = key.place();
    let Some(path) = path::<F>(place) else { return BY_THE_STACK };
    if !path.holds(&key, changes, now) {
        *path = Path::new(key, changes, now);
        ask::<F>(skb, &headers, path);
    }
    if path.device == 0 || longest::<F>(skb, protocol).is_none_or(|length| length > path.mtu) {
        return BY_THE_STACK;
    }
    let awaited = glance::may_be_awaited::<F>(&headers.plain, Port::from_network(headers.ports[0]));
    if awaited { place | AWAITED } else { place }
}

#[inline(always)]
fn path<F: Network>(place: u32) -> Option<&'static mut Path<F::Address>> {
    // SAFETY: the map gave the pointer; the value is this CPU's own, and a program of these hooks runs to its end before
    // another starts on the CPU.
    F::paths().get_ptr_mut(place).map(|path| unsafe { &mut *path })
}

/// False: everything goes by the stack.
#[inline(always)]
fn is_allowed(now: u64) -> bool {
    // SAFETY: the map gave the pointer. Volatile: the agent writes while we look.
    HOST_ROUTING.get_ptr(0).is_some_and(|until| now < unsafe { read_volatile(until) })
}

/// How often routes, rules and devices have changed so far.
#[inline(always)]
fn changes() -> u64 {
    // SAFETY: as in `is_allowed`.
    ROUTE_CHANGES.get_ptr(0).map_or(0, |count| unsafe { read_volatile(count) })
}

/// For the node by its MAC address; not marked for a rule; not of another network behind the same device, whether the tag
/// lies beside the packet or in it.
#[inline(always)]
fn is_ordinary<F: Network>(skb: *mut __sk_buff) -> bool {
    // SAFETY: the context's own fields. PACKET_HOST is 0.
    unsafe {
        (*skb).protocol == F::ETHER as u32 && (*skb).pkt_type == 0 && (*skb).mark == 0 && (*skb).vlan_present == 0
    }
}

/// `None`: the stack has something to do with it.
#[inline(always)]
fn read<F: Network>(skb: *mut __sk_buff) -> Option<Headers<F>> {
    let frame = Buffer::at_hand(skb);
    let header = frame.load::<F::Header>(ether::HEADER)?;
    let ports = frame.load::<[u16; 2]>(ether::HEADER + F::HEADER)?;
    frame.load::<u32>(ether::HEADER + F::HOPS).filter(|word| F::hops(*word) > 1)?;
    let plain = F::plain(header).filter(|plain| protocol::has_ports(plain.protocol))?;
    Some(Headers { plain, ports, class: F::traffic_class(header) })
}

/// Has the kernel say where packets of `path.key` go.
#[inline(never)]
fn ask<F: Network>(skb: *mut __sk_buff, headers: &Headers<F>, path: &mut Path<F::Address>) {
    let Plain { source, destination, protocol } = headers.plain;
    if !F::is_routed(source) || !F::is_routed(destination) || POD_DEVICES.get_ptr(path.key.from).is_none() {
        return;
    }
    let [source_port, destination_port] = headers.ports;
    let mut lookup = Lookup {
        family: F::AF,
        protocol,
        source_port,
        destination_port,
        // The shortest that has the kernel say what fits.
        length: 1,
        device: path.key.from,
        traffic_class: headers.class,
        source: F::words(source),
        destination: F::words(destination),
        vlan: 0,
        macs: [0; 6],
    };
    let said = lookup.ask(skb.cast(), 0);
    if POD_DEVICES.get_ptr(lookup.device).is_none() {
        return;
    }
    if said != BPF_FIB_LKUP_RET_SUCCESS {
        // The stack asks for a neighbour that is not known: the next packet may find it.
        path.until = 0;
        return;
    }
    let (device, mtu, macs) = (lookup.device, lookup.length as u32, lookup.macs);
    // Where answers would take another way than the packet came, it may be forged: the stack decides (rp_filter).
    lookup = Lookup {
        family: F::AF,
        traffic_class: headers.class,
        source_port: destination_port,
        destination_port: source_port,
        length: 1,
        device,
        source: F::words(destination),
        destination: F::words(source),
        ..lookup
    };
    let known = matches!(lookup.ask(skb.cast(), 0), BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_NO_NEIGH);
    if known && lookup.device == path.key.from {
        path.mtu = mtu;
        path.macs = macs;
        path.device = device;
    }
}

/// Bytes, from the network header on, of the longest packet that this is or will be segmented to. `None`: unknown.
#[inline(always)]
fn longest<F: Network>(skb: *mut __sk_buff, kind: u8) -> Option<u32> {
    // SAFETY: the context's own fields.
    let (segment, length) = unsafe { ((*skb).gso_size, (*skb).len) };
    if segment == 0 {
        return Some(length.wrapping_sub(ether::HEADER));
    }
    // A tunnel's segments are longer than they say: only the stack knows.
    if kind != protocol::TCP {
        return None;
    }
    let words = Buffer::at_hand(skb).load::<u8>(ether::HEADER + F::HEADER + tcp::LENGTH)?;
    let header = (words >> 4) as u32 * 4;
    Some(segment + header + F::HEADER)
}

/// One hop on, and to the pod at the end of the path.
#[inline(never)]
fn hand_over<F: Network>(skb: *mut __sk_buff, place: u32) -> i32 {
    let Some(path) = path::<F>(place) else { return DROP };
    let [a, b, c, d, e, f] = path.macs;
    let (packet, at) = (SkBuff::new(skb), ether::HEADER + F::HOPS);
    let hops = Buffer::at_hand(skb).load::<u32>(at).map(|word| F::forwarded(word, Sum::ZERO));
    // Translated by now, perhaps: nobody else would know it.
    if hops.is_none_or(|hops| packet.store(at as usize, &hops, BPF_F_RECOMPUTE_CSUM as u64).is_err())
        || packet.store(0, &[d, e, f, a, b, c], 0).is_err()
    {
        count(Verdict::DropRewriteFailed);
        return DROP;
    }
    count(Verdict::HostRouted);
    // SAFETY: a helper that only notes where the packet is to go.
    unsafe { bpf_redirect_peer(path.device, 0) as i32 }
}
