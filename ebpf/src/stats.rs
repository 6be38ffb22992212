//! A counter per named verdict.

use millrace_common::verdict::Verdict;

use crate::maps::STATS;

#[inline(always)]
pub(crate) fn count(verdict: Verdict) {
    add(verdict, 1);
}

#[inline(always)]
pub(crate) fn add(verdict: Verdict, times: u64) {
    if let Some(counter) = STATS.get_ptr_mut(verdict as u32) {
        // SAFETY: the map gave the pointer, and the value is this CPU's own; a lost increment under preemption
        // would only miscount.
        unsafe { *counter += times }
    }
}
