//! What a packet program keeps of one packet while it runs. It lies in a map, one per CPU, since the stack is 512 bytes
//! and the verifier follows every byte of it; no two runs of these programs on one CPU ever overlap.

use crate::{
    flow::{Flow, Tuple},
    header::Part,
};

/// Value of SCRATCH.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scratch<A> {
    pub packet: Packet<A>,
    /// The packet that an ICMP error quotes.
    pub quoted: Packet<A>,
    /// What the packet becomes.
    pub to: Flow<A>,
    /// What an ICMP error of the program's own quotes.
    pub quote: [u32; QUOTE / 4],
}

/// Bytes that an ICMP error quotes at most: the longest IPv4 header, or IPv6 with two extension headers, and more than
/// the eight bytes of the transport by which the sender finds its socket.
pub const QUOTE: usize = 128;

/// What was read of a packet.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<A> {
    /// As it arrives; ports only where the transport has them.
    pub tuple: Tuple<A>,
    /// Offset of the network header in the frame.
    pub l3: u32,
    /// Offset of the transport header.
    pub l4: u32,
    /// Bytes from the transport header on, as the network header says.
    pub l4_length: u32,
    /// What ties fragments together, network order.
    pub fragment: u32,
    pub part: Part,
    /// Flags of a TCP segment, or those that mean the same to SCTP; type of an ICMP message; of a quote, whether it
    /// reaches beyond its transport's checksum: 1 or 0.
    pub kind: u8,
    pub _pad: u16,
}

impl<A: Default + Copy> Packet<A> {
    /// Nothing read yet.
    #[inline(always)]
    #[must_use]
    pub fn at(l3: u32) -> Self {
        let tuple = Tuple::default();
        Self { tuple, l3, l4: 0, l4_length: 0, fragment: 0, part: Part::Whole, kind: 0, _pad: 0 }
    }

    /// As [`Packet::at`], for a packet of TCP or UDP: what reading it fills in anyway is left from the packet before.
    #[inline(always)]
    pub fn restart(&mut self, l3: u32) {
        self.tuple.direction = Tuple::<A>::FORWARD;
        self.tuple._pad = 0;
        self.l3 = l3;
        self.part = Part::Whole;
        self.kind = 0;
    }
}

const _: () = assert!(size_of::<Scratch<crate::address::Addr4>>() == 2 * 36 + 56 + QUOTE);
const _: () = assert!(size_of::<Scratch<crate::address::Addr6>>() == 2 * 60 + 80 + QUOTE);
