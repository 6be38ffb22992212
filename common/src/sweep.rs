//! What one run of the program `mr_sweep` says. The agent runs it every few seconds through BPF_PROG_TEST_RUN, on a
//! frame of [`FRAME`] zeroed bytes, and finds the report in the frame that comes back.

/// Bytes of the frame to run the program on.
pub const FRAME: usize = 64;
/// Offset of the [`Report`] in the frame that comes back: after the Ethernet header.
pub const REPORT_AT: usize = 14;

/// Entries of CT, two for each flow.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FamilyReport {
    /// Entries that stay.
    pub kept: u32,
    /// Entries that were deleted.
    pub expired: u32,
    /// Flows that stay and hold a port of the node's address, from which their clients outside are sent on.
    pub hidden: u32,
}

/// Both families.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    pub v4: FamilyReport,
    pub v6: FamilyReport,
}

impl Report {
    /// The program's return value when the frame holds a report.
    pub const WRITTEN: i32 = 0;
    /// The program's return value when the frame was too short.
    pub const NO_ROOM: i32 = 2;

    /// From the frame that came back; `None` if it is too short.
    #[must_use]
    pub fn from_frame(frame: &[u8]) -> Option<Self> {
        let (words, _) = frame.get(REPORT_AT..)?.as_chunks::<4>();
        let family = |[kept, expired, hidden]: [[u8; 4]; 3]| FamilyReport {
            kept: u32::from_ne_bytes(kept),
            expired: u32::from_ne_bytes(expired),
            hidden: u32::from_ne_bytes(hidden),
        };
        let (v4, rest) = words.split_first_chunk::<3>()?;
        Some(Self { v4: family(*v4), v6: family(*rest.first_chunk::<3>()?) })
    }
}

const _: () = assert!(size_of::<Report>() == 24);
