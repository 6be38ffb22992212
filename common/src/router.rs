//! Value of ROUTERS: whom clients came by, on a device over which no route leads back to them.

/// Keyed by the device's index, which it repeats: a replaced element may be handed to another key while it is read.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Router {
    pub device: u32,
    /// As they lie in an answer's frame: the router's, then the device's.
    pub macs: [u16; 6],
}

const _: () = assert!(size_of::<Router>() == 16);
