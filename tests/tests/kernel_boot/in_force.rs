//! What is in force on this kernel for each feature that kernels differ in: read off what the kernel accepted, made and
//! attached here, never off its version.

use std::process::Command;

use aya::{
    Ebpf,
    maps::Map,
    programs::{SchedClassifier, TcAttachType},
    sys::BpfHelper,
};
use millrace_agent::datapath::{self, Attacher, Pins, TcMode, devices::Role};
use millrace_tests::{bpffs::Bpffs, netns::Netns};

/// Names of features that are helpers, and what programs call.
const HELPERS: [(&str, BpfHelper); 9] = [
    ("bpf_set_retval", BpfHelper::BPF_FUNC_set_retval),
    ("bpf_loop", BpfHelper::BPF_FUNC_loop),
    ("bpf_for_each_map_elem", BpfHelper::BPF_FUNC_for_each_map_elem),
    ("bpf_check_mtu", BpfHelper::BPF_FUNC_check_mtu),
    ("bpf_ktime_get_coarse_ns", BpfHelper::BPF_FUNC_ktime_get_coarse_ns),
    ("bpf_redirect_neigh", BpfHelper::BPF_FUNC_redirect_neigh),
    ("bpf_redirect_peer", BpfHelper::BPF_FUNC_redirect_peer),
    ("bpf_get_netns_cookie", BpfHelper::BPF_FUNC_get_netns_cookie),
    ("bpf_get_current_ancestor_cgroup_id", BpfHelper::BPF_FUNC_get_current_ancestor_cgroup_id),
];

/// A device of the test's own.
const DEVICE: &str = "attached";

/// One program of the object, as the kernel took it.
pub(crate) struct Tried {
    pub(crate) name: String,
    pub(crate) helpers: Vec<i32>,
    pub(crate) accepted: bool,
}

/// What does the work, and whether that is the feature or what is done without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InForce {
    pub(crate) itself: bool,
    pub(crate) what: String,
}

fn by(itself: bool, what: impl Into<String>) -> InForce {
    InForce { itself, what: what.into() }
}

/// `attached`: see [`attached`].
pub(crate) fn of(feature: &str, object: &Ebpf, programs: &[Tried], attached: &InForce) -> InForce {
    match feature {
        "TCX links" => attached.clone(),
        "BTF of the kernel" => match datapath::probe() {
            Ok(_) => by(true, "there"),
            Err(error) => by(false, format!("no start: {error}")),
        },
        "socket storage" => {
            let made = object.maps().any(|(_, map)| matches!(map, Map::SkStorage(_)));
            by(made, if made { "in use" } else { "refused" })
        }
        helper => {
            let found = HELPERS.iter().find(|(name, _)| *name == helper);
            let (_, number) = found.unwrap_or_else(|| panic!("{helper}: nothing here sees what is in force for it"));
            called(helper, *number as i32, programs)
        }
    }
}

/// A helper is in use if every program that calls it was accepted.
fn called(helper: &str, number: i32, programs: &[Tried]) -> InForce {
    let callers: Vec<_> = programs.iter().filter(|program| program.helpers.contains(&number)).collect();
    assert!(!callers.is_empty(), "{helper} is in the table of features, and no program calls it");
    let refused: Vec<_> = callers.iter().filter(|program| !program.accepted).map(|program| &*program.name).collect();
    if refused.is_empty() { by(true, "in use") } else { by(false, format!("refused: {}", refused.join(", "))) }
}

/// Lets the agent's own code attach the programs to a device as it sees fit, and looks what is on the device then.
pub(crate) fn attached(object: &mut Ebpf) -> InForce {
    let (netns, bpffs) = (Netns::create("attached").unwrap(), Bpffs::mount("attached").unwrap());
    netns.ip(&[format!("link add {DEVICE} type veth peer name far")]).unwrap();
    let pins = Pins::at(bpffs.path.join("pins"));
    let _lock = pins.open().unwrap();
    let found = netns.run(|| {
        let index = nix::net::if_::if_nametoindex(DEVICE).unwrap();
        Attacher::new(pins, TcMode::Auto).attach(object, index, DEVICE, Role::Pod).unwrap();
        [(TcAttachType::Ingress, "ingress"), (TcAttachType::Egress, "egress")].map(|(direction, name)| {
            let links = SchedClassifier::query_tcx(DEVICE, direction).map_or(0, |(_, programs)| programs.len());
            (links, filters(name))
        })
    });
    match found.unwrap() {
        [(1, 0), (1, 0)] => by(true, "TCX links"),
        [(0, 1), (0, 1)] => by(false, "clsact filters"),
        other => panic!("links and filters at ingress and egress: {other:?}, and one program each was attached"),
    }
}

/// In the namespace of the thread that asks.
fn filters(direction: &str) -> usize {
    let output = Command::new("tc").args(["filter", "show", "dev", DEVICE, direction]).output().unwrap();
    // A device without the qdisc has no filters, whatever tc says to that.
    String::from_utf8_lossy(&output.stdout).matches(" handle 0x6d72 mr_").count()
}

#[test]
fn a_helper_is_in_use_only_if_no_program_that_calls_it_was_refused() {
    let tried =
        |name: &str, helpers: &[i32], accepted| Tried { name: name.to_owned(), helpers: helpers.into(), accepted };
    let programs = [tried("a", &[1, 2], true), tried("b", &[2], false), tried("c", &[2, 3], true)];
    assert_eq!(called("one", 1, &programs), by(true, "in use"));
    assert_eq!(called("two", 2, &programs), by(false, "refused: b"));
}

#[test]
#[should_panic(expected = "no program calls it")]
fn a_helper_that_no_program_calls_is_no_feature() {
    called("nine", 9, &[]);
}
