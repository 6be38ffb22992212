//! Socket hooks: translate once per connection (TCP) or per datagram (UDP of the host), at no cost per packet.
//!
//! Return values: 1 lets the call go on, 0 refuses it with the errno set by `bpf_set_retval`.

mod address;
mod connection;
mod datagram;
mod outgoing;
mod per_packet;
mod reverse;

pub(crate) use connection::released;
pub(crate) use outgoing::{CONNECT, SENDMSG, outgoing4, outgoing6};
pub(crate) use reverse::{reverse4, reverse6};

/// Let the call go on.
const ALLOW: i32 = 1;
/// Refuse the call.
const REFUSE: i32 = 0;
