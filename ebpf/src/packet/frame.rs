//! The bytes of a packet, as each kind of program reaches them.

use core::{ffi::c_void, ptr::read_volatile};

use aya_ebpf::{
    bindings::{__sk_buff, xdp_md},
    programs::sk_buff::SkBuff,
};
use millrace_common::checksum::Sum;

/// A frame from its Ethernet header on: the context that the kernel hands to a program. Offsets and lengths are bytes.
pub(super) trait Frame: Copy {
    /// `None` beyond the end.
    fn load<T>(self, offset: u32) -> Option<T>;
    /// True if all could be written.
    fn store<T>(self, offset: u32, value: &T) -> bool;
    fn length(self) -> u32;
}

/// What the kernel hands to a program.
pub(super) trait Context: Copy {
    fn raw(self) -> *mut c_void;
    /// Both addresses of the Ethernet header, the destination first.
    fn macs(self) -> Option<[u16; 6]>;
}

impl Context for *mut __sk_buff {
    #[inline(always)]
    fn raw(self) -> *mut c_void {
        self.cast()
    }

    #[inline(always)]
    fn macs(self) -> Option<[u16; 6]> {
        self.load(0)
    }
}

impl Context for *mut xdp_md {
    #[inline(always)]
    fn raw(self) -> *mut c_void {
        self.cast()
    }

    #[inline(always)]
    fn macs(self) -> Option<[u16; 6]> {
        Buffer::of(self).load(0)
    }
}

/// In tc the bytes lie anywhere: helpers find them.
impl Frame for *mut __sk_buff {
    #[inline(always)]
    fn load<T>(self, offset: u32) -> Option<T> {
        SkBuff::new(self).load(offset as usize).ok()
    }

    #[inline(always)]
    fn store<T>(self, offset: u32, value: &T) -> bool {
        SkBuff::new(self).store(offset as usize, value, 0).is_ok()
    }

    #[inline(always)]
    fn length(self) -> u32 {
        SkBuff::new(self).len()
    }
}

/// In XDP they lie in memory; in tc, as many of them as the kernel had at hand when it made the packet linear.
#[derive(Clone, Copy)]
pub(super) struct Buffer {
    data: usize,
    end: usize,
}

impl Buffer {
    /// For the function that asks: a function of its own that is handed on asks again.
    #[inline(always)]
    pub(super) fn of(xdp: *mut xdp_md) -> Self {
        // Volatile: or the compiler hands the addresses, not the context, to functions, where the verifier does not know
        // them for a packet's.
        // SAFETY: the context's own fields, which the kernel fills with addresses.
        let (data, end) = unsafe { (read_volatile(&raw const (*xdp).data), read_volatile(&raw const (*xdp).data_end)) };
        Self { data: data as usize, end: end as usize }
    }

    /// As [`Buffer::of`], in tc.
    #[inline(always)]
    pub(super) fn at_hand(skb: *mut __sk_buff) -> Self {
        // SAFETY: as in `of`.
        let (data, end) = unsafe { (read_volatile(&raw const (*skb).data), read_volatile(&raw const (*skb).data_end)) };
        Self { data: data as usize, end: end as usize }
    }

    #[inline(always)]
    fn at<T>(self, offset: u32) -> Option<*mut T> {
        let place = self.data + (offset & REACH) as usize;
        if place + size_of::<T>() > self.end { None } else { Some(place as *mut T) }
    }
}

/// The verifier wants to see that an offset is small: more than any header of a packet that XDP serves.
const REACH: u32 = 0xfff;

impl Frame for Buffer {
    #[inline(always)]
    fn load<T>(self, offset: u32) -> Option<T> {
        // SAFETY: `at` has compared the place with the packet's end. The kernel's architectures read words anywhere.
        self.at::<T>(offset).map(|place| unsafe { place.read() })
    }

    #[inline(always)]
    fn store<T>(self, offset: u32, value: &T) -> bool {
        let Some(place) = self.at::<T>(offset) else { return false };
        // SAFETY: as above; `value` is no part of the packet.
        unsafe { place.copy_from_nonoverlapping(value, 1) };
        true
    }

    #[inline(always)]
    fn length(self) -> u32 {
        (self.end - self.data) as u32
    }
}

/// Updates the checksum at `offset`: the difference that this makes to whatever covers it.
#[inline(always)]
pub(super) fn adjust(frame: impl Frame, offset: u32, change: Sum) -> Option<Sum> {
    let old = frame.load::<u16>(offset)?;
    let new = change.update(old);
    if frame.store(offset, &new) { Some(Sum::ZERO.replace(old as u32, new as u32)) } else { None }
}
