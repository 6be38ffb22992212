//! The names that kubelets give to pods' cgroups.

use std::ffi::OsStr;

use crate::model::PodUid;

/// Of a UUID, or of the hash that a static pod has in its place.
const UID_BYTES: std::ops::RangeInclusive<usize> = 32..=36;

/// The pod whose cgroup has this name, if it is one's: `podUID`, or with systemd `kubepods-QOS-podUID.slice`, where dashes
/// would be further slices and are underscores.
pub(super) fn pod(name: &OsStr) -> Option<PodUid> {
    let name = name.to_str()?;
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1.replace('_', "-"),
        None => name.strip_prefix("pod")?.to_owned(),
    };
    let is_uid = UID_BYTES.contains(&uid.len()) && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then(|| PodUid::new(&uid))
}

/// Whether pods may be below a cgroup of this name: systemd's services, scopes and the like have none of the kubelet's.
pub(super) fn may_hold_pods(name: &OsStr) -> bool {
    let kinds = [".service", ".scope", ".mount", ".socket", ".swap"];
    !kinds.iter().any(|kind| name.as_encoded_bytes().ends_with(kind.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "8dc9a1b8-0f3d-4c37-9a4c-6f3f2a0e9f11";

    #[test]
    fn both_of_the_kubelets_drivers_and_every_class_of_service_name_the_pod() {
        for name in [
            "pod8dc9a1b8-0f3d-4c37-9a4c-6f3f2a0e9f11",
            "kubepods-pod8dc9a1b8_0f3d_4c37_9a4c_6f3f2a0e9f11.slice",
            "kubepods-burstable-pod8dc9a1b8_0f3d_4c37_9a4c_6f3f2a0e9f11.slice",
            "kubelet-kubepods-besteffort-pod8dc9a1b8_0f3d_4c37_9a4c_6f3f2a0e9f11.slice",
        ] {
            assert_eq!(pod(name.as_ref()), Some(PodUid::new(UID)), "{name}");
        }
        let hash = "9b0b3e4b5fb1a4e7d1c4b0a1d2e3f405";
        assert_eq!(pod(format!("pod{hash}").as_ref()), Some(PodUid::new(hash)), "a static pod");
    }

    #[test]
    fn other_cgroups_are_no_pods() {
        for name in ["kubepods", "kubepods.slice", "kubepods-burstable.slice", "podman", "pod", "user-1000.slice", ""] {
            assert_eq!(pod(name.as_ref()), None, "{name}");
        }
        assert!(may_hold_pods("kubelet.slice".as_ref()) && may_hold_pods("burstable".as_ref()));
        assert!(!may_hold_pods("kubelet.service".as_ref()) && !may_hold_pods("init.scope".as_ref()));
    }
}
