//! The kinds of packet that are measured, and what must become of each: a figure of another packet's would be none.

use millrace_common::{
    address::{Addr4, Addr6, protocol},
    flow::{self, Tuple},
    header::ether,
    verdict::Verdict,
};
use millrace_tests::repeat::{Hook, Part};
use serde::{Deserialize, Serialize};

use super::stage::Place;

/// Which packet of its flow it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// A client's first: TCP SYN.
    New,
    /// A client's, of an established connection.
    Established,
    /// A backend's, of an established connection.
    Answer,
    /// A segment to an address that no service has.
    Nobody,
}

/// Which services the packets are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// One, and of it one connection.
    Hot,
    /// All, in random order; of each one connection.
    Random,
}

/// One kind of packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    pub xdp: bool,
    pub v6: bool,
    pub backends: Place,
    pub step: Step,
}

impl Case {
    /// All with backends there. XDP leaves those of backends on its own node to tc: what it takes to see that is
    /// measured, too; their answers never meet it.
    pub(super) fn all(backends: Place) -> Vec<Self> {
        let mut cases = Vec::new();
        for (xdp, v6) in [(true, false), (false, false), (true, true), (false, true)] {
            for step in [Step::New, Step::Established, Step::Answer, Step::Nobody] {
                let met = match backends {
                    Place::Elsewhere => true,
                    Place::Here => step != Step::Nobody && !(xdp && step == Step::Answer),
                };
                if met {
                    cases.push(Self { xdp, v6, backends, step });
                }
            }
        }
        cases
    }

    pub(super) const fn hook(self) -> Hook {
        if self.xdp { Hook::Xdp } else { Hook::Tc }
    }

    pub(super) const fn program(self) -> &'static str {
        match self {
            Self { xdp: true, .. } => "mr_xdp",
            Self { backends: Place::Here, step: Step::Answer, .. } => "mr_from_pod",
            _ => "mr_from_uplink",
        }
    }

    /// What its flow's entry is found under: a table, its key as it lies in a plain packet of TCP, and bytes of the value.
    /// `None` for packets that have no entry.
    pub(super) fn entry(self) -> Option<(&'static str, Vec<Part>, usize)> {
        let direction = match self.step {
            Step::Established => Tuple::<Addr4>::FORWARD,
            Step::Answer => Tuple::<Addr4>::REPLY,
            Step::New | Step::Nobody => return None,
        };
        let (table, value) =
            if self.v6 { ("CT_V6", size_of::<flow::Flow<Addr6>>()) } else { ("CT_V4", size_of::<flow::Flow<Addr4>>()) };
        // Both addresses lie together, and so do both ports behind the header.
        let (at, addresses, header) = if self.v6 { (8, 32, 40) } else { (12, 8, 20) };
        let ethernet = ether::HEADER as usize;
        let key = vec![
            Part::Of { offset: ethernet + at, length: addresses },
            Part::Of { offset: ethernet + header, length: 4 },
            Part::Word(u32::from_ne_bytes([protocol::TCP, direction, 0, 0])),
        ];
        Some((table, key, value))
    }

    /// It leaves the program as it came.
    pub(super) const fn passes(self) -> bool {
        matches!(self.step, Step::Nobody) || (self.xdp && matches!(self.backends, Place::Here))
    }

    /// What the program returns: XDP_PASS or XDP_TX, TC_ACT_UNSPEC or TC_ACT_REDIRECT.
    pub(super) const fn returns(self) -> i32 {
        match (self.xdp, self.passes()) {
            (true, true) => 2,
            (true, false) => 3,
            (false, true) => -1,
            (false, false) => 7,
        }
    }

    /// What is counted, once a packet; nothing else is.
    pub(super) fn counted(self) -> Vec<Verdict> {
        let mut counted = match self.step {
            Step::New => vec![Verdict::PacketNewFlow],
            // Counted by whoever serves it.
            Step::Established if !self.passes() => vec![Verdict::PacketForwarded],
            Step::Answer => vec![Verdict::PacketReversed],
            Step::Established | Step::Nobody => vec![],
        };
        if self.xdp && self.step != Step::Nobody {
            counted.push(if self.passes() { Verdict::XdpLeft } else { Verdict::XdpServed });
        }
        counted.sort_unstable();
        counted
    }

    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match (self.step, self.backends, self.xdp) {
            (Step::Nobody, ..) => "no service's",
            (Step::New, Place::Elsewhere, _) => "new flow",
            (Step::Established, Place::Elsewhere, _) => "established flow",
            (Step::Answer, Place::Elsewhere, _) => "its answers",
            (Step::New, Place::Here, false) => "new flow, backend on this node",
            (Step::Established, Place::Here, false) => "established flow, backend on this node",
            (Step::Answer, Place::Here, _) => "its answers, backend on this node",
            (Step::New, Place::Here, true) => "new flow, left to tc: backend on this node",
            (Step::Established, Place::Here, true) => "established flow, left to tc: backend on this node",
        }
    }
}
