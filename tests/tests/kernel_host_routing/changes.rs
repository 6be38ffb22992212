//! What changes under way: routes, devices, the agent itself.

use std::time::Duration;

use millrace_tests::{address::twin, probe::Protocol};

use super::scene::{OTHER, SERVER, Scene, VIP, both};

/// An address that moves to another pod is found there by the next packet, and back again; with no agent to hear of it, a
/// second later.
#[test]
fn a_pod_is_followed_to_its_new_device() {
    let mut scene = Scene::new(&[]);
    scene.wait_until_routed();
    let other = scene.pod("other");
    other
        .netns
        .ip(&[format!("address add {SERVER}/32 dev eth0"), format!("address add {}/128 dev eth0 nodad", twin(SERVER))])
        .unwrap();
    for to in both(SERVER) {
        move_to(&scene, "other");
        // The agent hears of it within milliseconds.
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(scene.ask(to, Protocol::Tcp).as_deref(), Some("other"));
        move_to(&scene, "server");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(scene.ask(to, Protocol::Tcp).as_deref(), Some("server"));
    }
    scene.wait_until_routed();
    scene.kill_agent();
    move_to(&scene, "other");
    std::thread::sleep(Duration::from_millis(1_100));
    for to in both(SERVER) {
        assert_eq!(scene.ask(to, Protocol::Tcp).as_deref(), Some("other"), "without an agent");
    }
}

fn move_to(scene: &Scene, pod: &str) {
    let device = &scene.pod(pod).device;
    let routes = [
        format!("route replace {SERVER}/32 dev {device} scope link"),
        format!("route replace {}/128 dev {device}", twin(SERVER)),
    ];
    scene.node().netns.ip(&routes).unwrap();
}

/// Nobody learns of a firewall while no agent runs: the permission ends by itself, and pods reach each other all the same.
/// The next agent gives it again.
#[test]
fn without_an_agent_the_stack_has_all_packets_again() {
    let mut scene = Scene::new(&[]);
    scene.wait_until_routed();
    scene.kill_agent();
    assert!(both(SERVER).iter().all(|to| scene.goes_past(*to)), "an agent that is replaced is not missed");
    let to = both(SERVER)[0];
    scene.wait_until("the permission has ended", || !scene.goes_past(to));
    for to in both(SERVER).into_iter().chain(both(VIP)) {
        assert_eq!(scene.ask(to, Protocol::Udp).as_deref(), Some("server"));
    }
    scene.start_agent();
    scene.wait_until_routed();
}

/// A queue on the pod's device is there to delay its packets.
#[test]
fn a_pod_whose_bandwidth_is_limited_is_reached_by_the_stack() {
    let scene = Scene::new(&[]);
    scene.wait_until_routed();
    let [to, _] = both(SERVER);
    let device = &scene.pod("server").device;
    scene.node().netns.tc(&[format!("qdisc add dev {device} root pfifo limit 1000")]).unwrap();
    scene.wait_until("the pod with a queue is left to the stack", || !scene.goes_past(to));
    assert_eq!(scene.ask(to, Protocol::Tcp).as_deref(), Some("server"));
    scene.wait_until("the other pod is not", || both(OTHER).iter().all(|to| scene.goes_past(*to)));
    assert!(!scene.goes_past(to));
    scene.node().netns.tc(&[format!("qdisc del dev {device} root")]).unwrap();
    scene.wait_until_routed();
}
