//! Says to aya that the ABI's values may be copied as bytes.

use aya::Pod;

use crate::{
    address::{Addr4, Addr6},
    affinity::{AffinityKey, AffinityValue},
    answer::Bucket,
    backend::Slot,
    flow::{Flow, Tuple},
    fragment::{FragmentKey, FragmentPorts},
    frontend::{FrontendKey, FrontendValue},
    node::OwnAddress,
    per_packet::Levels,
    router::Router,
    service::{ServiceName, ServiceRecord, SourceRange},
    socket::{Datagrams, Translation},
};

macro_rules! pod {
    ($($type:ty),+ $(,)?) => {
        // SAFETY: each is `repr(C)` or `repr(transparent)` of integers with its padding spelled out (the sizes are
        // asserted beside the types), so every byte is initialised.
        $(unsafe impl Pod for $type {})+
    };
}

pod!(
    FrontendKey<Addr4>,
    FrontendKey<Addr6>,
    FrontendValue,
    ServiceRecord,
    ServiceName,
    SourceRange<Addr4>,
    SourceRange<Addr6>,
    Slot<Addr4>,
    Slot<Addr6>,
    Tuple<Addr4>,
    Tuple<Addr6>,
    Flow<Addr4>,
    Flow<Addr6>,
    AffinityKey<Addr4>,
    AffinityKey<Addr6>,
    AffinityValue,
    FragmentKey<Addr4>,
    FragmentKey<Addr6>,
    FragmentPorts,
    Bucket,
    OwnAddress,
    Levels,
    Router,
    Translation,
    Datagrams,
);
