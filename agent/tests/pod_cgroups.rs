//! Pods are found among the node's cgroups wherever a kubelet puts them. Any directory stands for the hierarchy here: needs
//! no privileges.
#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use millrace_agent::{datapath::PodCgroupTree, model::PodUid};
use tokio::time::timeout;

const UIDS: [&str; 3] = [
    "8dc9a1b8-0f3d-4c37-9a4c-6f3f2a0e9f11",
    "11111111-2222-4333-8444-555555555555",
    "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee",
];

fn make(root: &Path, path: &str) -> PathBuf {
    let path = root.join(path);
    fs::create_dir_all(path.join("container")).unwrap();
    path
}

/// UID, id and level of each pod.
fn found(tree: &PodCgroupTree) -> Vec<(PodUid, u64, u32)> {
    tree.survey().unwrap().found.into_iter().map(|cgroup| (cgroup.uid, cgroup.id, cgroup.level)).collect()
}

fn expected(pods: &[(usize, &Path, u32)]) -> Vec<(PodUid, u64, u32)> {
    let mut pods: Vec<_> = (pods.iter())
        .map(|(uid, path, level)| (PodUid::new(UIDS[*uid]), fs::metadata(path).unwrap().ino(), *level))
        .collect();
    pods.sort();
    pods
}

#[tokio::test]
async fn pods_are_found_at_the_depths_of_either_driver() {
    let root = tempfile::tempdir().unwrap();
    let guaranteed = make(root.path(), &format!("kubepods/pod{}", UIDS[0]));
    let escaped = UIDS[1].replace('-', "_");
    let systemd = "kubepods.slice/kubepods-burstable.slice";
    let burstable = make(root.path(), &format!("{systemd}/kubepods-burstable-pod{escaped}.slice"));
    let nested = make(root.path(), &format!("docker/0123/kubelet/kubepods/besteffort/pod{}", UIDS[2]));
    make(root.path(), &format!("system.slice/backup.service/pod{}", UIDS[0]));
    let tree = PodCgroupTree::open(root.path()).unwrap();
    assert_eq!(found(&tree), expected(&[(0, &guaranteed, 2), (1, &burstable, 3), (2, &nested, 6)]));
}

#[tokio::test]
async fn a_pod_that_comes_or_goes_is_told_and_so_is_one_in_a_directory_that_was_not_there() {
    let tell = Duration::from_secs(20);
    let root = tempfile::tempdir().unwrap();
    let tree = PodCgroupTree::open(root.path()).unwrap();
    assert_eq!(found(&tree), []);
    for round in 0..2 {
        // The whole tree is new, and in the second round it has the paths of the first.
        let first = make(root.path(), &format!("kubepods/burstable/pod{}", UIDS[0]));
        while found(&tree) != expected(&[(0, &first, 3)]) {
            timeout(tell, tree.changed()).await.unwrap().unwrap();
        }
        let second = make(root.path(), &format!("kubepods/burstable/pod{}", UIDS[1]));
        timeout(tell, tree.changed()).await.unwrap().unwrap();
        assert_eq!(found(&tree), expected(&[(0, &first, 3), (1, &second, 3)]), "round {round}");
        fs::remove_dir_all(&first).unwrap();
        timeout(tell, tree.changed()).await.unwrap().unwrap();
        assert_eq!(found(&tree), expected(&[(1, &second, 3)]), "round {round}");
        fs::remove_dir_all(root.path().join("kubepods")).unwrap();
        timeout(tell, tree.changed()).await.unwrap().unwrap();
        assert_eq!(found(&tree), []);
    }
}
