//! What a client names: an address, a port and a protocol that belong to a service.

use core::mem::offset_of;

use crate::address::Port;

/// Key of FRONTENDS. `port` 0 with `protocol` 0 marks an address that services own, whatever the port: traffic to
/// another of its ports is refused, not forwarded.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FrontendKey<A> {
    pub address: A,
    pub port: Port,
    /// IANA number; 0 only in the mark of an owned address.
    pub protocol: u8,
    pub _pad: u8,
}

impl<A> FrontendKey<A> {
    #[inline(always)]
    pub const fn new(address: A, port: Port, protocol: u8) -> Self {
        Self { address, port, protocol, _pad: 0 }
    }

    /// The key that marks `address` as owned by services.
    #[inline(always)]
    pub const fn owned(address: A) -> Self {
        Self::new(address, Port::ANY, 0)
    }
}

/// Value of FRONTENDS: written once, deleted, never replaced.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FrontendValue {
    /// Index into SERVICES; [`FrontendValue::NO_SERVICE`] in the mark of an owned address.
    pub service: u32,
    /// A [`FrontendKind`].
    pub kind: u8,
    pub _pad: [u8; 3],
}

impl FrontendValue {
    pub const NO_SERVICE: u32 = u32::MAX;
    /// The value of every mark of an owned address.
    pub const OWNED: Self = Self::new(Self::NO_SERVICE, FrontendKind::Owned);

    #[must_use]
    pub const fn new(service: u32, kind: FrontendKind) -> Self {
        Self { service, kind: kind as u8, _pad: [0; 3] }
    }
}

/// Why the address belongs to a service: it decides which set serves and what guards it.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FrontendKind {
    ClusterIp = 1,
    NodePort = 2,
    LoadBalancer = 3,
    ExternalIp = 4,
    HostPort = 5,
    /// The mark of an address that services own (port 0).
    Owned = 6,
}

impl FrontendKind {
    /// `None` for a byte that no millrace wrote.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::ClusterIp,
            2 => Self::NodePort,
            3 => Self::LoadBalancer,
            4 => Self::ExternalIp,
            5 => Self::HostPort,
            6 => Self::Owned,
            _ => return None,
        })
    }

    /// True where the whole address is the services': its other ports are refused. A node's own address is not, nor one
    /// that other machines may serve other ports of: a VIP or an external IP (as kube-proxy has it).
    #[must_use]
    pub const fn owns_address(self) -> bool {
        matches!(self, Self::ClusterIp)
    }

    /// The word an operator reads.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalIp => "ExternalIP",
            Self::HostPort => "HostPort",
            Self::Owned => "owned",
        }
    }
}

const _: () = assert!(size_of::<FrontendKey<crate::address::Addr4>>() == 8);
const _: () = assert!(size_of::<FrontendKey<crate::address::Addr6>>() == 20);
const _: () = assert!(size_of::<FrontendValue>() == 8);
const _: () =
    assert!(offset_of!(FrontendKey<crate::address::Addr6>, port) == 16 && offset_of!(FrontendValue, kind) == 4);
