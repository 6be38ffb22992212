//! Runs a tc or an XDP program on one packet, through the kernel's BPF_PROG_TEST_RUN.

use std::fmt;

use anyhow::{Context, Result, bail};
use aya::{
    TestRun, TestRunResult,
    programs::{SchedClassifier, TestRunOptions, Xdp},
};

use crate::packet::Seen;

/// What a program may say (linux/pkt_cls.h; of XDP, linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// TC_ACT_UNSPEC, TCX_NEXT: the next program, then the stack; XDP_PASS.
    Next,
    /// TC_ACT_OK, TCX_PASS
    Pass,
    /// TC_ACT_SHOT, TCX_DROP; XDP_DROP
    Drop,
    /// TC_ACT_REDIRECT, TCX_REDIRECT; XDP_REDIRECT; the test run does not carry it out.
    Redirect,
    /// XDP_TX: out of the device that it came by; the test run does not carry it out.
    Transmit,
    Other(i32),
}

impl Action {
    fn of_tc(value: i32) -> Self {
        match value {
            -1 => Self::Next,
            0 => Self::Pass,
            2 => Self::Drop,
            7 => Self::Redirect,
            other => Self::Other(other),
        }
    }

    fn of_xdp(value: i32) -> Self {
        match value {
            1 => Self::Drop,
            2 => Self::Next,
            3 => Self::Transmit,
            4 => Self::Redirect,
            other => Self::Other(other),
        }
    }
}

/// What became of the packet.
#[derive(Clone, PartialEq, Eq)]
pub struct Outcome {
    pub action: Action,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

impl Outcome {
    /// The frame, read.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn seen(&self) -> Result<Seen> {
        Seen::frame(&self.frame).map_err(|problem| anyhow::anyhow!("{problem}: {:02x?}", self.frame))
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:#?}", self.action, Seen::frame(&self.frame))
    }
}

/// Room for `struct __sk_buff` (linux/bpf.h) as of kernel 6.1 and later; older kernels take it while the rest is zero.
const CONTEXT_BYTES: usize = 192;
/// Offset of `__sk_buff.ifindex`.
const IFINDEX: usize = 40;
/// Bytes that a program may add to a frame.
const ROOM: usize = 512;

/// Runs `program` on `frame` as if it had come to the device `ifindex` of the caller's network namespace (`None`:
/// the loopback device).
///
/// # Errors
/// The kernel's, most often because the device is not in this namespace.
pub fn run(program: &SchedClassifier, frame: &[u8], ifindex: Option<u32>) -> Result<Outcome> {
    let mut context = [0; CONTEXT_BYTES];
    if let Some(ifindex) = ifindex {
        context[IFINDEX..IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
    }
    outcome(program, frame, &context).map(|(value, frame)| Outcome { action: Action::of_tc(value), frame })
}

/// As [`run`], for an XDP program.
///
/// # Errors
/// As [`run`].
pub fn run_xdp(program: &Xdp, frame: &[u8], ifindex: u32) -> Result<Outcome> {
    // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let words = [0, u32::try_from(frame.len())?, 0, ifindex, 0, 0];
    let context: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    outcome(program, frame, &context).map(|(value, frame)| Outcome { action: Action::of_xdp(value), frame })
}

/// What the program returned, and the frame as it left it.
fn outcome<P>(program: &P, frame: &[u8], context: &[u8]) -> Result<(i32, Vec<u8>)>
where
    P: for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult>,
{
    let mut out = vec![0; frame.len() + ROOM];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ctx_in: Some(context),
        ..TestRunOptions::new()
    };
    let result = program.test_run(options).context("BPF_PROG_TEST_RUN")?;
    let length = result.data_size_out as usize;
    if length > out.len() {
        bail!("the program made {length} bytes of {}; raise ROOM", frame.len());
    }
    out.truncate(length);
    Ok((result.return_value.cast_signed(), out))
}
