//! Programs on pods' devices and on uplinks: there as soon as the device is, gone with it, kept while the agent is away, and out of
//! the way of others.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use aya::maps::{Array, Map, MapData};
use millrace_agent::datapath::{Pins, has_tcx};
use millrace_tests::{
    agent::{Agent, run_to_end},
    manifests::Manifests,
    network::{Network, NodeSpec},
    node::Node,
};

const PATIENCE: Duration = Duration::from_secs(60);
const POD: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 41);
const LATER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 42);

fn network() -> Network {
    Network::of_one_node(&[("early", POD)]).unwrap()
}

fn tc(node: &Node, arguments: &[&str]) -> String {
    let output = node.place().command("tc".as_ref()).unwrap().args(arguments).output().unwrap();
    assert!(output.status.success(), "tc {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Of either family, unlike a batch's.
fn ip(node: &Node, command: &str) {
    let output = node.place().command("ip".as_ref()).unwrap().args(command.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Our programs among the filters of a device, in both directions.
fn filters(node: &Node, device: &str) -> usize {
    let shown = ["ingress", "egress"].map(|direction| tc(node, &["filter", "show", "dev", device, direction]));
    shown.iter().map(|text| text.matches(" handle 0x6d72 mr_").count()).sum()
}

fn links(agent: &Agent) -> usize {
    let status: serde_json::Value = serde_json::from_str(&agent.ask(&["status"]).unwrap()).unwrap();
    status["device_links"].as_u64().unwrap() as usize
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so after {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn clean_up(node: &Node) {
    let bpffs = node.bpffs.path.display().to_string();
    let output = run_to_end(&node.place(), &["cleanup", "--bpffs", &bpffs], false).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// True, loudly, where the kernel has no TCX: what needs it is tested on newer kernels.
fn skipped_without_tcx(test: &str) -> bool {
    let skipped = !has_tcx();
    if skipped {
        println!("SKIPPED {test}: this kernel has no TCX (6.6)");
    }
    skipped
}

#[test]
fn tcx_links_follow_the_devices_as_they_come_and_go() {
    if skipped_without_tcx("tcx_links_follow_the_devices_as_they_come_and_go") {
        return;
    }
    let (mut network, manifests) = (network(), Manifests::create().unwrap());
    let agent = Agent::start(network.node("n1").unwrap(), &manifests, &["--tc", "tcx"]).unwrap();
    assert_eq!(links(&agent), 4, "two programs are on the pod's device, two on the uplink");
    network.node_mut("n1").unwrap().add_pod("late", LATER).unwrap();
    wait_until("both programs are on the device that came later", || links(&agent) == 6);
    network.node_mut("n1").unwrap().remove_pod("early");
    wait_until("the pins of the device that went are gone", || links(&agent) == 4);
}

/// A node whose network comes up after the agent: the device that a default route comes to lead over is an uplink.
#[test]
fn a_device_is_an_uplink_as_soon_as_a_default_route_leads_over_it() {
    let (network, manifests) = (network(), Manifests::create().unwrap());
    let node = network.node("n1").unwrap();
    // Those to other nodes' pods lead out, too; and so does the device of an address that the agent is told.
    for command in ["route flush proto boot", "-6 route flush proto boot"] {
        ip(node, command);
    }
    let mut agent = Agent::spawn_nameless(node, &manifests, &["--tc", "clsact"]).unwrap();
    agent.settle(&manifests).unwrap();
    assert_eq!(filters(node, "uplink"), 0);
    node.netns.ip(&["route add default via 10.0.0.254"]).unwrap();
    wait_until("both programs are on the uplink", || filters(node, "uplink") == 2);
}

/// How often the ways of packets may have changed, as the programs are told.
fn route_changes(node: &Node) -> u64 {
    let map = MapData::from_pin(Pins::at(&node.bpffs.path).map("ROUTE_CHANGES")).unwrap();
    let map: Array<MapData, u64> = Map::from_map_data(map).unwrap().try_into().unwrap();
    map.get(&0, 0).unwrap()
}

/// Whatever a packet's way follows from: what the programs remember of it ends with the change.
#[test]
fn the_programs_are_told_when_the_ways_of_packets_change() {
    let (network, manifests) = (network(), Manifests::create().unwrap());
    let node = network.node("n1").unwrap();
    let _agent = Agent::start(node, &manifests, &[]).unwrap();
    for change in [
        "neighbour replace 10.0.0.254 lladdr 02:00:00:00:fe:77 dev uplink nud permanent",
        "neighbour replace fd00::77 lladdr 02:00:00:00:fe:77 dev uplink nud permanent",
        "route add 192.0.2.0/24 via 10.0.0.254",
        "route add fd00:77::/64 dev uplink",
        "rule add from 192.0.2.1 lookup 77",
        "-6 rule add from fd00:77::1 lookup 77",
        "link set uplink mtu 1400",
        "address add 192.0.2.1/32 dev uplink",
    ] {
        let before = quiet(node);
        ip(node, change);
        wait_until(change, || route_changes(node) > before);
    }
}

/// The count when nothing has changed for a while.
fn quiet(node: &Node) -> u64 {
    let mut count = route_changes(node);
    wait_until("nothing changes by itself", || {
        thread::sleep(Duration::from_millis(300));
        let before = std::mem::replace(&mut count, route_changes(node));
        before == count
    });
    count
}

#[test]
fn pins_of_devices_that_went_while_no_agent_ran_are_removed_at_the_next_start() {
    if skipped_without_tcx("pins_of_devices_that_went_while_no_agent_ran_are_removed_at_the_next_start") {
        return;
    }
    let (mut network, manifests) = (network(), Manifests::create().unwrap());
    Agent::start(network.node("n1").unwrap(), &manifests, &["--tc", "tcx"]).unwrap().terminate().unwrap();
    network.node_mut("n1").unwrap().remove_pod("early");
    network.node_mut("n1").unwrap().add_pod("late", LATER).unwrap();
    let agent = Agent::start(network.node("n1").unwrap(), &manifests, &["--tc", "tcx"]).unwrap();
    assert_eq!(links(&agent), 4);
}

#[test]
fn clsact_filters_stay_when_the_agent_ends_and_are_replaced_in_place() {
    let (network, manifests) = (network(), Manifests::create().unwrap());
    let node = network.node("n1").unwrap();
    let device = node.pod("early").unwrap().device.as_str();
    for _ in 0..3 {
        Agent::start(node, &manifests, &["--tc", "clsact"]).unwrap().terminate().unwrap();
        for device in [device, "uplink"] {
            assert_eq!(filters(node, device), 2, "one program in each direction, however often the agent started");
        }
    }
    clean_up(node);
    for device in [device, "uplink"] {
        let qdiscs = tc(node, &["qdisc", "show", "dev", device]);
        assert!(!qdiscs.contains("clsact"), "the qdisc that the agent added is gone");
    }
}

#[test]
fn a_clsact_qdisc_with_somebody_elses_filter_survives_the_cleanup() {
    let (network, manifests) = (network(), Manifests::create().unwrap());
    let node = network.node("n1").unwrap();
    let device = &node.pod("early").unwrap().device;
    Agent::start(node, &manifests, &["--tc", "clsact"]).unwrap().terminate().unwrap();
    // A classic BPF program of one instruction: every kernel that has the agent's classifier has this one.
    let program = "1,6 0 0 4294967295,";
    tc(node, &["filter", "add", "dev", device, "ingress", "prio", "99", "bpf", "bytecode", program]);
    clean_up(node);
    assert_eq!(filters(node, device), 0);
    assert!(tc(node, &["filter", "show", "dev", device, "ingress"]).contains("pref 99"));
}

#[test]
fn a_device_moves_between_clsact_and_tcx_without_a_trace_of_the_other() {
    if skipped_without_tcx("a_device_moves_between_clsact_and_tcx_without_a_trace_of_the_other") {
        return;
    }
    let (network, manifests) = (network(), Manifests::create().unwrap());
    let node = network.node("n1").unwrap();
    let device = &node.pod("early").unwrap().device;
    for (mode, wanted) in [("clsact", (2, 0)), ("tcx", (0, 4)), ("clsact", (2, 0))] {
        let agent = Agent::start(node, &manifests, &["--tc", mode]).unwrap();
        assert_eq!((filters(node, device), links(&agent)), wanted, "--tc {mode}: filters, links");
        agent.terminate().unwrap();
    }
}

#[test]
fn a_device_that_the_next_agent_is_not_told_of_is_let_go() {
    let (network, manifests) = (network(), Manifests::create().unwrap());
    let node = network.node("n1").unwrap();
    let device = node.pod("early").unwrap().device.as_str();
    let modes: &[&str] = if has_tcx() { &["clsact", "tcx"] } else { &["clsact"] };
    for mode in modes {
        Agent::start(node, &manifests, &["--tc", mode]).unwrap().terminate().unwrap();
        let agent =
            Agent::start(node, &manifests, &["--tc", mode, "--veth-prefix", "none", "--device", "none"]).unwrap();
        let filters = [device, "uplink"].map(|device| filters(node, device));
        assert_eq!((filters, links(&agent)), ([0, 0], 0), "--tc {mode}: filters, links");
        agent.terminate().unwrap();
    }
}

/// The uplink's XDP program, as `ip` shows it: mode and program id.
fn express(node: &Node) -> Option<(String, u64)> {
    let output =
        node.place().command("ip".as_ref()).unwrap().args(["-j", "link", "show", "dev", "uplink"]).output().unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let xdp = shown[0].get("xdp")?;
    // By number (linux/if_link.h): 1 is the driver's, 2 that of the kernel's stack.
    let mode = if xdp["mode"].as_u64().unwrap() == 1 { "native" } else { "generic" };
    Some((mode.to_owned(), xdp["prog"]["id"].as_u64().unwrap()))
}

/// XDP is on the uplink in the mode that was asked for, stays when the agent ends, is replaced by the next agent's program,
/// and is gone with an agent that does not want it, or with the clean-up.
#[test]
fn xdp_is_on_the_uplink_for_as_long_as_it_is_asked_for() {
    let (network, manifests) = (network(), Manifests::create().unwrap());
    let node = network.node("n1").unwrap();
    let mut programs = std::collections::BTreeSet::new();
    for mode in ["generic", "generic", "native", "native", "off", "generic"] {
        let agent = Agent::start(node, &manifests, &["--xdp", mode]).unwrap();
        let found = express(node);
        assert_eq!(found.as_ref().map_or("off", |(mode, _)| mode), mode, "{}", agent.log_tail());
        let status: serde_json::Value = serde_json::from_str(&agent.ask(&["status"]).unwrap()).unwrap();
        assert_eq!(status["xdp_links"].as_array().unwrap().len(), usize::from(mode != "off"), "{status}");
        agent.terminate().unwrap();
        assert_eq!(express(node), found, "it outlives the agent");
        if let Some((_, id)) = found {
            assert!(programs.insert(id), "each agent brings its own program");
        }
    }
    clean_up(node);
    assert_eq!(express(node), None);
}

/// Somebody else's XDP program stays where it is; the agent says so, and serves the device by tc.
#[test]
fn an_uplink_with_somebody_elses_xdp_is_served_by_tc() {
    let (network, manifests) = (network(), Manifests::create().unwrap());
    let node = network.node("n1").unwrap();
    let other = node.netns.run(|| millrace_tests::xdp_pass::attach("uplink").unwrap()).unwrap();
    let before = express(node);
    assert!(before.is_some());
    let agent = Agent::start(node, &manifests, &["--xdp", "generic", "--tc", "clsact"]).unwrap();
    assert!(agent.log_tail().contains("it has another XDP program"), "{}", agent.log_tail());
    assert_eq!((express(node), filters(node, "uplink")), (before, 2));
    drop(other);
}

/// Two nodes; filters of n1's agent are on n1's device when this returns.
fn abandoned() -> (Network, Manifests) {
    let nodes = [NodeSpec { name: "n1", zone: "a", number: 1 }, NodeSpec { name: "n2", zone: "a", number: 2 }];
    let (mut network, manifests) = (Network::create(&nodes).unwrap(), Manifests::create().unwrap());
    let node = network.node_mut("n1").unwrap();
    node.add_pod("early", POD).unwrap();
    Agent::start(node, &manifests, &["--tc", "clsact"]).unwrap().terminate().unwrap();
    assert_eq!(filters(node, &node.pod("early").unwrap().device), 2);
    (network, manifests)
}

#[test]
fn cleanup_from_another_network_namespace_leaves_no_filter_behind() {
    let (network, _manifests) = abandoned();
    let (node, elsewhere) = (network.node("n1").unwrap(), network.node("n2").unwrap());
    let device = &node.pod("early").unwrap().device;
    let bpffs = node.bpffs.path.display().to_string();
    let output = run_to_end(&elsewhere.place(), &["cleanup", "--bpffs", &bpffs], false).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(filters(node, device), 0);
    assert!(!tc(node, &["qdisc", "show", "dev", device]).contains("clsact"));
}

#[test]
fn an_agent_that_moves_to_another_network_namespace_takes_its_filters_along() {
    let (network, manifests) = abandoned();
    let (node, elsewhere) = (network.node("n1").unwrap(), network.node("n2").unwrap());
    let bpffs = node.bpffs.path.display().to_string();
    let agent = Agent::spawn(elsewhere, &manifests, &["--tc", "clsact", "--bpffs", &bpffs]).unwrap();
    wait_until("no filter is left", || filters(node, &node.pod("early").unwrap().device) == 0);
    drop(agent);
}
