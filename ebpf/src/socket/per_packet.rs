//! Does the call come from a pod that the operator has chosen to be translated per packet?

use core::ptr::read_volatile;

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use millrace_common::per_packet::Levels;

use crate::maps::{PACKET_CGROUPS, PACKET_LEVELS};

/// One read where no pod is chosen.
#[inline(always)]
pub(super) fn is_chosen() -> bool {
    let Some(levels) = PACKET_LEVELS.get_ptr(0) else { return false };
    // SAFETY: the map gave the pointer. Volatile: the agent stores the word while we look.
    let levels = Levels(unsafe { read_volatile(&raw const (*levels).0) });
    if levels == Levels::NONE {
        return false;
    }
    for step in 0..Levels::MOST {
        let Some(level) = levels.at(step) else { return false };
        // SAFETY: asks about the process that makes the call; a level that it has not is answered with 0.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
        if id == 0 {
            return false;
        }
        // SAFETY: only whether it is there matters.
        if unsafe { PACKET_CGROUPS.get(id) }.is_some() {
            return true;
        }
    }
    false
}
