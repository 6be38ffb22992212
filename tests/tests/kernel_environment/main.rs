//! A node that is not as it should be: the agent says what is wrong, by name, and what to do about it. And what an
//! agent leaves behind: all of it until `cleanup`, then nothing.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod bpffs;
mod source;

use std::{
    fs,
    io::Read as _,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
};

use aya::maps::Array;
use millrace_agent::datapath::{Pins, SetupError, cgroup};
use millrace_tests::{
    agent::{Agent, run_to_end, run_without_btf, run_without_cgroup2},
    manifests::Manifests,
    network::{Network, NodeSpec},
    node::Node,
};

fn network() -> Network {
    Network::create(&[NodeSpec { name: "n1", zone: "a", number: 1 }]).unwrap()
}

/// Runs the agent with these arguments, which it cannot serve: what it says of it.
fn refusal(node: &Node, arguments: &[&str]) -> String {
    let output = run_to_end(&node.place(), arguments, false).unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "the agent accepts {arguments:?}:\n{text}");
    text.lines().last().unwrap_or_default().to_owned()
}

/// As [`refusal`], of `run` with what every node has, and `more`.
fn refused_start(node: &Node, manifests: &Manifests, more: &[&str]) -> String {
    let (source, cgroup) = (format!("dir:{}", manifests.path().display()), node.cgroup.path.display().to_string());
    let bpffs = node.bpffs.path.display().to_string();
    let mut arguments = vec!["run", "--node-name", "n1", "--source", &source];
    for (flag, value) in [("--cgroup-root", &cgroup), ("--bpffs", &bpffs)] {
        if !more.contains(&flag) {
            arguments.extend([flag, value]);
        }
    }
    arguments.extend(more);
    refusal(node, &arguments)
}

/// What lies in the node's bpf file system.
fn pinned(node: &Node) -> Vec<String> {
    let entries = fs::read_dir(&node.bpffs.path).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // The kernel's own are in every one.
    names.filter(|name| !name.ends_with(".debug")).collect()
}

fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[test]
fn a_second_agent_on_the_same_bpffs_is_told_so() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    let agent = Agent::start(node, &manifests, &[]).unwrap();
    let bpffs = node.bpffs.path.display().to_string();
    assert_says(&refused_start(node, &manifests, &[]), &["another agent", &bpffs, "--bpffs"]);
    let cleanup = refusal(node, &["cleanup", "--bpffs", &bpffs]);
    assert_says(&cleanup, &["another agent", &bpffs]);
    agent.terminate().unwrap();
}

#[test]
fn a_path_that_is_on_no_bpf_file_system_is_named_with_the_mount_command() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    let elsewhere = manifests.beside().join("pins").display().to_string();
    let text = refused_start(node, &manifests, &["--bpffs", &elsewhere]);
    assert_says(&text, &[&elsewhere, &format!("mkdir -p {elsewhere} && mount -t bpf bpf {elsewhere}"), "--bpffs"]);
}

#[test]
fn maps_of_another_layout_are_refused_by_name_and_left_alone() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    fs::create_dir_all(node.bpffs.path.join("layout-999")).unwrap();
    let text = refused_start(node, &manifests, &[]);
    assert_says(&text, &["layout 999", &node.bpffs.path.display().to_string(), "millrace-agent cleanup"]);
    let shown = refusal(node, &["services", "--bpffs", &node.bpffs.path.display().to_string()]);
    assert_says(&shown, &["nothing is pinned"]);
    assert!(node.bpffs.path.join("layout-999").exists());
}

#[test]
fn a_pinned_map_with_other_values_is_refused_by_name() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    Agent::start(node, &manifests, &[]).unwrap().terminate().unwrap();
    let pin = node.bpffs.path.join("maps/SERVICES");
    fs::remove_file(&pin).unwrap();
    Array::<_, u64>::create(16, 0).unwrap().pin(&pin).unwrap();
    let text = refused_start(node, &manifests, &[]);
    assert_says(&text, &["maps/SERVICES", "values of 8 bytes", "values of 32 bytes", "millrace-agent cleanup"]);
}

#[test]
fn a_cgroup_above_or_below_another_millrace_is_refused() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    let (above, below) = (node.cgroup.path.display().to_string(), node.cgroup.child("below").unwrap());
    let below_path = below.path.display().to_string();
    let other = node.bpffs.path.join("other").display().to_string();
    let agent = Agent::start(node, &manifests, &[]).unwrap();
    for cgroup in [&above, &below_path] {
        let text = refused_start(node, &manifests, &["--cgroup-root", cgroup, "--bpffs", &other]);
        assert_says(&text, &[&above, "another bpffs path", "cleanup", "--cgroup-root"]);
        assert!(!Path::new(&other).exists(), "a start that is refused leaves {other} behind");
    }
    agent.terminate().unwrap();
    let bpffs = node.bpffs.path.display().to_string();
    assert!(run_to_end(&node.place(), &["cleanup", "--bpffs", &bpffs], false).unwrap().status.success());

    let _agent = Agent::start(node, &manifests, &["--cgroup-root", &below_path]).unwrap();
    let text = refused_start(node, &manifests, &["--bpffs", &other]);
    assert_says(&text, &[&below_path, "another bpffs path"]);
}

#[test]
fn a_directory_outside_of_cgroup_v2_is_named() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    let elsewhere = manifests.beside().display().to_string();
    let text = refused_start(node, &manifests, &["--cgroup-root", &elsewhere]);
    assert_says(&text, &[&elsewhere, "cgroup v2", "--cgroup-root"]);
}

#[test]
fn a_host_without_cgroup_v2_is_told_how_to_mount_it() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    let (source, bpffs) = (format!("dir:{}", manifests.path().display()), node.bpffs.path.display().to_string());
    let arguments = ["run", "--node-name", "n1", "--source", &source, "--bpffs", &bpffs];
    let output = run_without_cgroup2(&node.place(), &arguments).unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "the agent starts:\n{text}");
    let said = text.lines().last().unwrap_or_default();
    assert_says(said, &["no cgroup v2", "mount -t cgroup2 none /sys/fs/cgroup", "--cgroup-root"]);
    assert!(!node.bpffs.path.join("maps").exists(), "nothing was begun");
}

/// The cgroup that carries a millrace, of this one, of those above and of those below; asked for by somebody who has none.
fn served_by_another(cgroup: &Path) -> Option<PathBuf> {
    match cgroup::check_alone(cgroup, &Pins::at("/sys/fs/bpf/no-such-agent")) {
        Ok(()) => None,
        Err(SetupError::OtherMillrace { cgroup, .. }) => Some(cgroup),
        Err(error) => panic!("{}: {error}", cgroup.display()),
    }
}

#[test]
fn without_a_cgroup_root_the_hierarchy_in_the_mount_table_is_served() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    assert_eq!(served_by_another(&node.cgroup.path), None);
    let agent = Agent::start_in_own_hierarchy(node, &manifests).unwrap();
    // What that agent takes for the root is the node's cgroup; the machine's own is asked about before it.
    assert_eq!(served_by_another(&node.cgroup.path).as_ref(), Some(&node.cgroup.path));
    agent.terminate().unwrap();
    let bpffs = node.bpffs.path.display().to_string();
    assert!(run_to_end(&node.place(), &["cleanup", "--bpffs", &bpffs], false).unwrap().status.success());
    assert_eq!(served_by_another(&node.cgroup.path), None, "after the cleanup");
}

#[test]
fn an_agent_without_capabilities_is_told_which_are_missing() {
    let network = network();
    let node = network.node("n1").unwrap();
    let arguments = ["run", "--node-name", "n1", "--source", "dir:/", "--bpffs", "/sys/fs/bpf/millrace"];
    let output = run_to_end(&node.place(), &arguments, true).unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert_says(&text, &["CAP_BPF", "CAP_NET_ADMIN", "securityContext"]);
}

#[test]
fn a_kernel_that_shows_no_btf_is_told_of_with_the_remedy() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    let (cgroup, bpffs) = (node.cgroup.path.display().to_string(), node.bpffs.path.display().to_string());
    let source = format!("dir:{}", manifests.path().display());
    let arguments = ["run", "--node-name", "n1", "--source", &source, "--cgroup-root", &cgroup, "--bpffs", &bpffs];
    let output = run_without_btf(&node.place(), &arguments).unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "the agent starts:\n{text}");
    let said = text.lines().last().unwrap_or_default();
    assert_says(said, &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF", "mount the host's /sys"]);
    assert!(!node.bpffs.path.join("maps").exists(), "nothing was begun");
    // It was seen missing by that agent only.
    Agent::start(node, &manifests, &[]).unwrap().terminate().unwrap();
}

#[test]
fn a_manifest_directory_that_is_missing_is_named() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    let missing = manifests.beside().join("missing").display().to_string();
    let (cgroup, bpffs) = (node.cgroup.path.display().to_string(), node.bpffs.path.display().to_string());
    let source = format!("dir:{missing}");
    let text =
        refusal(node, &["run", "--node-name", "n1", "--source", &source, "--cgroup-root", &cgroup, "--bpffs", &bpffs]);
    assert_says(&text, &[&missing, "--source"]);
}

#[test]
fn a_start_that_the_configuration_dooms_touches_nothing_in_the_kernel() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    for (more, parts) in [
        (&["--health-addr", "192.0.2.1:10256"][..], &["192.0.2.1:10256", "--health-addr"][..]),
        (&["--metrics-addr", "192.0.2.1:10249"], &["192.0.2.1:10249", "--metrics-addr"]),
        (&["--source", "kube", "--kube-api", "api.example:6443"], &["api.example:6443", "--kube-api https://"]),
        (&["--source", "dir:/nonexistent"], &["/nonexistent", "--source"]),
        (&["--cgroup-root", "/nonexistent"], &["/nonexistent", "--cgroup-root"]),
    ] {
        assert_says(&refused_start(node, &manifests, more), parts);
        let left = pinned(node);
        assert!(left.is_empty(), "{more:?} leaves {left:?} behind");
    }
}

#[test]
fn the_verbs_that_read_say_when_there_is_nothing_to_read() {
    let network = network();
    let node = network.node("n1").unwrap();
    for verb in ["status", "services", "backends", "conntrack", "stats"] {
        let text = refusal(node, &[verb, "--bpffs", "/sys/fs/bpf/no-such-agent"]);
        assert_says(&text, &["/sys/fs/bpf/no-such-agent", "no agent has run there"]);
    }
}

#[test]
fn cleanup_leaves_no_trace_and_the_next_start_begins_anew() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    let bpffs = node.bpffs.path.display().to_string();
    for _ in 0..2 {
        Agent::start(node, &manifests, &[]).unwrap().terminate().unwrap();
        assert!(node.bpffs.path.join("links/connect4").exists(), "the data path stays when the agent ends");
        assert!(run_to_end(&node.place(), &["cleanup", "--bpffs", &bpffs], false).unwrap().status.success());
        let left = pinned(node);
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// Ports that services use are kept from the node's own connections, besides those that others reserved, which stay when
/// the agent is given other ones and when it is removed.
#[test]
fn ports_of_services_are_reserved_until_the_cleanup() {
    const LIST: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    // All in one read: the kernel answers no second one.
    let list = || {
        let mut text = [0; 4096];
        let length = fs::File::open(LIST).unwrap().read(&mut text).unwrap();
        str::from_utf8(&text[..length]).unwrap().trim().to_owned()
    };
    let reserved = || node.netns.run(list).unwrap();
    let bpffs = node.bpffs.path.display().to_string();
    for (others, one, another) in [
        ("", "1024-32767", "20000-20999,30000-32767"),
        ("2000,40000", "1024-32767,40000", "2000,20000-20999,30000-32767,40000"),
    ] {
        node.netns.run(|| fs::write(LIST, format!("{others}\n")).unwrap()).unwrap();
        for (ports, list) in [("1024-29999", one), ("20000-20999", another)] {
            Agent::start(node, &manifests, &["--snat-ports", ports]).unwrap().kill().unwrap();
            assert_eq!(reserved(), list, "--snat-ports {ports}");
        }
        assert!(run_to_end(&node.place(), &["cleanup", "--bpffs", &bpffs], false).unwrap().status.success());
        assert_eq!(reserved(), others, "after the cleanup");
    }
}

/// Where the node's own connections would be left without ports, nothing is reserved: it must reach its API server.
#[test]
fn a_node_keeps_ports_for_its_own_connections() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    node.netns.sysctl(&[("ipv4/ip_local_port_range", "15000 32000")]).unwrap();
    let agent = Agent::start(node, &manifests, &[]).unwrap();
    let connected = node.netns.run(|| {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(server.local_addr().unwrap())
    });
    connected.unwrap().unwrap();
    agent.terminate().unwrap();
}

#[test]
fn cleanup_removes_nothing_from_a_directory_that_is_no_agents() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    let home = manifests.beside().join("home");
    fs::create_dir_all(home.join("maps")).unwrap();
    fs::write(home.join("maps/treasure"), "x").unwrap();
    let home_path = home.display().to_string();
    assert_says(&refusal(node, &["cleanup", "--bpffs", &home_path]), &[&home_path, "--bpffs"]);
    assert!(home.join("maps/treasure").exists());

    let others = node.bpffs.path.join("others");
    fs::create_dir_all(others.join("maps/theirs")).unwrap();
    let others_path = others.display().to_string();
    assert_says(&refusal(node, &["cleanup", "--bpffs", &others_path]), &[&others_path, "nothing is removed"]);
    assert!(others.join("maps/theirs").exists());
}

#[test]
fn cleanup_may_be_repeated() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    Agent::start(node, &manifests, &[]).unwrap().terminate().unwrap();
    let bpffs = node.bpffs.path.display().to_string();
    for _ in 0..2 {
        let output = run_to_end(&node.place(), &["cleanup", "--bpffs", &bpffs], false).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn other_sizes_keep_all_services_and_sizes_that_cannot_hold_them_are_refused() {
    let network = network();
    let (node, manifests) = (network.node("n1").unwrap(), Manifests::create().unwrap());
    Agent::start(node, &manifests, &["--max-services", "64"]).unwrap().terminate().unwrap();
    let mut agent = Agent::start(node, &manifests, &["--max-services", "128", "--max-backends", "4096"]).unwrap();
    let services = agent.ask(&["services"]).unwrap();
    assert_says(&services, &["mark-"]);
    assert_says(&agent.ask(&["status"]).unwrap(), &["\"entries\": 128", "\"entries\": 4096"]);
    agent.settle(&manifests).unwrap();
    agent.terminate().unwrap();

    let text = refused_start(node, &manifests, &["--max-frontends", "1", "--max-services", "128"]);
    assert_says(&text, &["FRONTENDS_V4", "--max-frontends"]);
    let mut agent = Agent::start(node, &manifests, &["--max-services", "32", "--max-backends", "64"]).unwrap();
    assert_says(&agent.ask(&["status"]).unwrap(), &["\"entries\": 32"]);
    agent.settle(&manifests).unwrap();
}
