//! The way of a packet that was translated where it reached the node. The kernel's stack would take a source that is
//! an address of its own for a forgery (a martian), so such packets are sent on from here: to the device that the
//! node's routes name, policy rules on the source included, or to the one that the client is behind.

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_NOT_FWDED,
        BPF_FIB_LKUP_RET_SUCCESS, bpf_check_mtu_flags, bpf_redir_neigh,
    },
    helpers::{bpf_check_mtu, bpf_fib_lookup, bpf_redirect_neigh},
};
use core::{ffi::c_void, ptr};
use millrace_common::{
    address::protocol,
    flow::{Flow, Tuple, state},
    scratch::Packet,
};

use super::{NEXT, hook::Hook, network::Network, router};
use crate::node;

/// `struct bpf_fib_lookup` (linux/bpf.h), with its unions as they are used here.
#[repr(C)]
pub(super) struct Lookup {
    pub family: u8,
    pub protocol: u8,
    pub source_port: u16,
    pub destination_port: u16,
    /// In: bytes from the network header on; 0: the kernel does not compare them with the route's.
    /// Out: what fits, if the kernel was to compare.
    pub length: u16,
    /// In: the device that the packet came by. Out: the device that it leaves by.
    pub device: u32,
    pub traffic_class: u32,
    pub source: [u32; 4],
    /// In: the destination. Out: the next hop.
    pub destination: [u32; 4],
    pub vlan: u32,
    /// Out: the device's, then the next hop's.
    pub macs: [u16; 6],
}

const _: () = assert!(size_of::<Lookup>() == 64);

impl Lookup {
    /// For what becomes `to`.
    #[inline(always)]
    pub(super) fn new<F: Network>(
        packet: &Packet<F::Address>,
        to: &Flow<F::Address>,
        device: u32,
        length: u16,
    ) -> Self {
        Self {
            family: F::AF,
            protocol: packet.tuple.protocol,
            source_port: to.source_port.network(),
            destination_port: to.destination_port.network(),
            length,
            device,
            traffic_class: 0,
            source: F::words(to.source),
            destination: F::words(to.destination),
            vlan: 0,
            macs: [0; 6],
        }
    }

    /// For an answer that leaves by `device`.
    #[inline(always)]
    pub(super) fn back<F: Network>(packet: &Packet<F::Address>, device: u32) -> Self {
        let tuple = &packet.tuple;
        Self {
            family: F::AF,
            protocol: tuple.protocol,
            source_port: tuple.destination_port.network(),
            destination_port: tuple.source_port.network(),
            length: 0,
            device,
            traffic_class: 0,
            source: F::words(tuple.destination),
            destination: F::words(tuple.source),
            vlan: 0,
            macs: [0; 6],
        }
    }

    /// Asks the kernel; the result is one of `BPF_FIB_LKUP_RET_*`.
    #[inline(always)]
    pub(super) fn ask(&mut self, context: *mut c_void, flags: u32) -> u32 {
        // SAFETY: the parameters are laid out as the kernel wants them, and as long as they are said to be; the context
        // is the program's own.
        unsafe { bpf_fib_lookup(context, ptr::from_mut(self).cast(), size_of::<Self>() as i32, flags) as u32 }
    }
}

/// `struct bpf_redir_neigh` (linux/bpf.h).
#[repr(C)]
struct Hop {
    family: u32,
    address: [u32; 4],
}

impl Hop {
    /// No family: the router that the client came by.
    const ROUTER: u32 = u32::MAX;
}

const _: () = assert!(size_of::<Hop>() == size_of::<bpf_redir_neigh>());

/// Where a packet goes on.
pub(super) struct Way {
    /// 0: the stack takes it.
    device: u32,
    hop: Hop,
    /// Bytes, from the network header on, that the device carries; only where the packet is larger.
    pub mtu: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Way,
    /// The packet does not fit through the device.
    TooBig,
    Nowhere,
}

impl Way {
    pub(super) const STACK: Self = Self { device: 0, hop: Hop { family: 0, address: [0; 4] }, mtu: 0 };

    /// True if the packet is sent on from here, past the stack.
    #[inline(always)]
    pub(super) fn leads_on(&self) -> bool {
        self.device != 0
    }

    /// Sends the packet, rewritten by now, on its way.
    #[inline(always)]
    pub(super) fn take(&mut self, skb: *mut __sk_buff) -> i32 {
        if self.device == 0 {
            return NEXT;
        }
        if self.hop.family == Hop::ROUTER {
            return router::send(skb, self.device);
        }
        let hop = if self.hop.family == 0 { ptr::null_mut() } else { (&raw mut self.hop).cast() };
        let length = if self.hop.family == 0 { 0 } else { size_of::<Hop>() as i32 };
        // SAFETY: a helper that copies the hop, which is as long as it says, and resolves the neighbour when the
        // program has ended.
        unsafe { bpf_redirect_neigh(self.device, hop, length, 0) as i32 }
    }
}

/// The way of what becomes `to`.
#[inline(never)]
pub(super) fn find<F: Network, H: Hook>(
    skb: *mut __sk_buff,
    packet: &Packet<F::Address>,
    to: &Flow<F::Address>,
    way: &mut Way,
) -> Found {
    if packet.tuple.direction == Tuple::<F::Address>::FORWARD {
        match route::<F>(skb, packet, to, way) {
            Found::Way => {}
            found => return found,
        }
    // SAFETY: the context's own field.
    } else if !H::EGRESS || to.device != unsafe { (*skb).ifindex } {
        way.device = to.device;
        if to.state & state::ROUTER != 0 {
            way.hop.family = Hop::ROUTER;
        }
    }
    if way.device != 0 && protocol::has_ports(packet.tuple.protocol) && !fits(skb, way) {
        return Found::TooBig;
    }
    Found::Way
}

/// As the kernel would route it.
#[inline(always)]
fn route<F: Network>(skb: *mut __sk_buff, packet: &Packet<F::Address>, to: &Flow<F::Address>, way: &mut Way) -> Found {
    // SAFETY: the context's own field.
    let mut lookup = Lookup::new::<F>(packet, to, unsafe { (*skb).ifindex }, 0);
    match lookup.ask(skb.cast(), 0) {
        // A neighbour that nobody has asked for yet is asked for when the packet is sent. One that is known has the
        // kernel compare the packet with its device, in the end: whether it fits, the sender is told by us.
        BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_NO_NEIGH | BPF_FIB_LKUP_RET_FRAG_NEEDED => {
            way.device = lookup.device;
            // The kernel says so where an IPv4 route leads over an IPv6 neighbour.
            way.hop = Hop { family: lookup.family as u32, address: lookup.destination };
            Found::Way
        }
        // The backend is on the node itself, whose own address it would be a mistake to come from.
        BPF_FIB_LKUP_RET_NOT_FWDED if !node::has::<F>(&to.source) => Found::Way,
        _ => Found::Nowhere,
    }
}

/// Segments of a large packet are looked at one by one.
#[inline(always)]
fn fits(skb: *mut __sk_buff, way: &mut Way) -> bool {
    let mut mtu = 0u32;
    let flags = bpf_check_mtu_flags::BPF_MTU_CHK_SEGS as u64;
    // SAFETY: a helper that writes the device's MTU to where it is told.
    let result = unsafe { bpf_check_mtu(skb.cast(), way.device, &raw mut mtu, 0, flags) };
    way.mtu = mtu;
    // Negative: the kernel does not know the device, which the redirection will tell it, too.
    result <= 0
}
