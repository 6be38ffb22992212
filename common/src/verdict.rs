//! Every way a packet or a socket call can end, by name. STATS has a counter for each.

macro_rules! verdicts {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Index into STATS.
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Verdict { $($(#[doc = $doc])+ $variant,)+ }

        impl Verdict {
            /// All of them, in the order of STATS.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The label an operator reads in `stats` and in `/metrics`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence on what happened.
            #[must_use]
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii_start(),)+ }
            }
        }
    };
}

verdicts! {
    /// A socket call was sent to a backend.
    SocketTranslated = "socket_translated",
    /// A socket's reply or peer name was given its frontend back.
    SocketReversed = "socket_reversed",
    /// A socket call was refused: the service has no endpoint, or not this port.
    SocketRejected = "socket_rejected",
    /// A socket call was left alone so that the per-packet path decides (affinity, source ranges, a drop).
    SocketLeftToPackets = "socket_left_to_packets",
    /// A packet of a known flow was sent to its backend.
    PacketForwarded = "packet_forwarded",
    /// A packet began a flow.
    PacketNewFlow = "packet_new_flow",
    /// A packet of a known flow was sent to another backend, since the old one no longer serves.
    PacketMoved = "packet_moved",
    /// A reply was given its frontend back.
    PacketReversed = "packet_reversed",
    /// An ICMP error was translated with the header that it quotes.
    IcmpErrorTranslated = "icmp_error_translated",
    /// A packet was refused with a TCP reset or an SCTP ABORT.
    RejectedReset = "rejected_reset",
    /// A packet was too large for the way to its backend, and its sender was told by an ICMP error.
    TooBig = "too_big",
    /// A packet was refused with an ICMP error.
    RejectedUnreachable = "rejected_unreachable",
    /// A packet that is refused, without the answer: the answers are rate limited, or none may be sent.
    RejectedSilently = "rejected_silently",
    /// A packet was dropped: the policy is Local and no endpoint is local.
    DropNoLocalEndpoint = "drop_no_local_endpoint",
    /// A packet was dropped: an address of the service range that no service has.
    DropNoSuchService = "drop_no_such_service",
    /// A packet was dropped: the tail of a fragmented datagram whose head was not seen.
    DropFragmentWithoutHead = "drop_fragment_without_head",
    /// A packet to a service was dropped: its headers make no sense.
    DropMalformed = "drop_malformed",
    /// A new flow was refused: the connection table is full.
    DropTableFull = "drop_table_full",
    /// Not counted any more: such a flow is given another port.
    DropReplyAmbiguous = "drop_reply_ambiguous",
    /// A new flow was refused: all ports that were tried for it are taken by flows to the same backend.
    DropNoPort = "drop_no_port",
    /// A packet was dropped: the client is not in the load balancer's source ranges.
    DropSourceRange = "drop_source_range",
    /// A packet was dropped: there is no way from this node to the backend that was chosen.
    DropNoRoute = "drop_no_route",
    /// A packet was dropped: a fragment of SCTP whose port would change, and with it a checksum over what is not here.
    DropSctpFragment = "drop_sctp_fragment",
    /// A packet was dropped: the kernel refused to rewrite it, as it does when it is short of memory.
    DropRewriteFailed = "drop_rewrite_failed",
    /// A TCP or SCTP packet to a service that begins nothing and is of no known flow: it went on untouched.
    PassUnknownSegment = "pass_unknown_segment",
    /// A flow was forgotten: over, or idle for too long.
    FlowExpired = "flow_expired",
    /// A slot of another service was read. Must be 0.
    BugForeignSlot = "bug_foreign_slot",
    /// A slot or record index beyond its map was read. Must be 0.
    BugBeyondMap = "bug_beyond_map",
    /// A packet was sent on or dropped by XDP; its other verdict is counted too.
    XdpServed = "xdp_served",
    /// A packet of a flow was left to tc by XDP: its way leads over no uplink, or to a neighbour not yet known.
    XdpLeft = "xdp_left",
    /// A packet had no hops left for its way on, and its sender was told by an ICMP error.
    HopsUsedUp = "hops_used_up",
    /// A socket call was left alone: its pod is translated per packet (`millrace.io/socket-lb: off`).
    SocketPodExcluded = "socket_pod_excluded",
    /// A pod's packet was handed to another pod of the node, past the node's stack.
    HostRouted = "host_routed",
    /// A new flow from outside was refused: the node has no address of its own as which it could ask the backend.
    DropNoNodeAddress = "drop_no_node_address",
    /// A new flow was given another source port: from its own the client already talks to the same backend, through another
    /// frontend, and the answers could not be told apart.
    FlowNewPort = "flow_new_port",
}

/// Entries of STATS: room for verdicts to come without a new layout.
pub const STATS_ENTRIES: u32 = 64;

const _: () = assert!(Verdict::ALL.len() <= STATS_ENTRIES as usize);
