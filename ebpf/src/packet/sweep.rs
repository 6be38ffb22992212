//! Flows that are over, or idle for too long, are forgotten: looked at and deleted here, in the kernel, so that no
//! packet can come in between.

use core::{ffi::c_void, ptr::read_volatile};

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_for_each_map_elem};
use millrace_common::{
    flow::{self as common, Flow, Tuple},
    select,
    sweep::{FamilyReport, REPORT_AT, Report},
    verdict::Verdict,
};

use super::{
    flow::{self, End},
    network::{Network, store},
};
use crate::{
    family::{V4, V6},
    stats,
};

/// Walks over all established flows and writes a [`Report`] into the frame.
#[inline(always)]
pub(crate) fn sweep(skb: *mut __sk_buff) -> i32 {
    let report = Report { v4: walk::<V4>(), v6: walk::<V6>() };
    if store(skb, REPORT_AT as u32, &report) { Report::WRITTEN } else { Report::NO_ROOM }
}

/// What one walk carries from entry to entry.
#[repr(C)]
struct Walk {
    now: u32,
    report: FamilyReport,
}

#[inline(never)]
fn walk<F: Network>() -> FamilyReport {
    let mut walk = Walk { now: flow::now(), report: FamilyReport::default() };
    let map = (&raw const *F::ct()).cast_mut().cast::<c_void>();
    let callback = entry::<F> as *mut c_void;
    // SAFETY: `entry` has the signature that the kernel calls (bpf_for_each_hash_elem), and `walk` outlives the call.
    unsafe { bpf_for_each_map_elem(map, callback, (&raw mut walk).cast(), 0) };
    stats::add(Verdict::FlowExpired, walk.report.expired as u64);
    walk.report
}

/// Looks at one entry of CT; 0 goes on to the next.
extern "C" fn entry<F: Network>(
    _map: *mut c_void,
    key: *const Tuple<F::Address>,
    value: *const Flow<F::Address>,
    walk: *mut Walk,
) -> i64 {
    // SAFETY: the kernel hands out the entry and our own context, alive during the call.
    let (key, walk) = unsafe { (&*key, &mut *walk) };
    let mine = flow::state_of(value);
    // Most flows are busy, and are done with here.
    if !common::idle(walk.now, mine.1, common::timeout::SHORTEST) {
        walk.report.kept += 1;
        walk.report.hidden += is_hidden::<F>(key, value, mine.0) as u32;
        return 0;
    }
    let mut known = Flow::default();
    if !flow::read(value, select::tag(key), &mut known) {
        return 0;
    }
    let opposite = flow::opposite(&known, key.protocol, key.direction ^ 1);
    let other = partner::<F>(key, &opposite);
    // Where both entries of a flow share a bucket, the walk may still come by the one that was deleted with its fellow:
    // only what is there counts.
    if !common::expired(walk.now, key.protocol, mine, other) {
        if F::ct().get_ptr(key).is_some() {
            walk.report.kept += 1;
            walk.report.hidden += is_hidden::<F>(key, value, mine.0) as u32;
        }
        return 0;
    }
    // The other entry goes with it.
    walk.report.expired += F::ct().remove(key).is_ok() as u32;
    if other.is_some() {
        walk.report.expired += F::ct().remove(&opposite).is_ok() as u32;
    }
    0
}

/// Answers that come to an address of the node, and go on to a client that has another one.
#[inline(always)]
fn is_hidden<F: Network>(key: &Tuple<F::Address>, value: *const Flow<F::Address>, state: u32) -> bool {
    // SAFETY: the kernel hands out the entry, whose memory stays a flow's; of one that is handed to another key this
    // moment the count is wrong by one.
    let client = unsafe { read_volatile(&raw const (*value).destination) };
    key.direction == Tuple::<F::Address>::REPLY && state & common::state::NODE != 0 && client != key.destination
}

/// State and time of the flow's other entry, if there is one that belongs to `key`.
#[inline(always)]
fn partner<F: Network>(key: &Tuple<F::Address>, opposite: &Tuple<F::Address>) -> Option<(u32, u32)> {
    let entry = F::ct().get_ptr(opposite)?;
    let source = End { address: &key.destination, port: key.destination_port };
    let destination = End { address: &key.source, port: key.source_port };
    let state = flow::state_of(entry);
    let ours = flow::look(entry, select::tag(opposite), |entry| flow::turns_into(entry, source, destination))?;
    if ours { Some(state) } else { None }
}
