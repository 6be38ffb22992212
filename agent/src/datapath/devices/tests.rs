//! What is told of devices that come, go and change.

use super::*;

fn devices() -> Devices {
    Devices::new(Selection { veth_prefix: "eni".into(), uplinks: ["eth1".to_owned()].into() })
}

fn device(index: u32, name: &str) -> Heard {
    Heard::Device { index, name: name.into(), link: Link::Framed }
}

fn address(index: u32, address: &str) -> Heard {
    Heard::Address { index, address: address.parse().unwrap() }
}

fn gone(index: u32, address: &str) -> Heard {
    Heard::AddressGone { index, address: address.parse().unwrap() }
}

/// What is told of the node's addresses after a burst of events.
fn settled(devices: &mut Devices, burst: impl IntoIterator<Item = Heard>) -> Option<DeviceEvent> {
    burst.into_iter().for_each(|heard| drop(devices.hear(heard)));
    devices.settle()
}

fn attach(index: u32, name: &str) -> DeviceEvent {
    DeviceEvent::Attach { index, name: name.into(), role: Role::Pod }
}

fn uplink(index: u32, name: &str) -> DeviceEvent {
    DeviceEvent::Attach { index, name: name.into(), role: Role::Uplink }
}

fn addresses(all: &[&str]) -> DeviceEvent {
    DeviceEvent::Addresses(all.iter().map(|text| text.parse().unwrap()).collect())
}

#[test]
fn a_pods_veth_is_attached_to_once_however_often_the_kernel_mentions_it() {
    let mut devices = devices();
    assert_eq!(devices.hear(device(7, "eni1a2b")), [attach(7, "eni1a2b")]);
    assert_eq!(devices.hear(device(7, "eni1a2b")), []);
    assert_eq!(devices.hear(Heard::DeviceGone { index: 7 }), [DeviceEvent::Release { index: 7, vanished: true }]);
    assert_eq!(devices.hear(device(8, "docker0")), []);
    assert_eq!(devices.hear(device(9, "eth1")), [uplink(9, "eth1")]);
}

#[test]
fn a_device_is_attached_to_when_it_gets_a_name_that_matches_and_let_go_when_it_loses_it() {
    let mut devices = devices();
    assert_eq!(devices.hear(device(7, "veth9")), []);
    assert_eq!(devices.hear(device(7, "eni9")), [attach(7, "eni9")]);
    assert_eq!(devices.hear(device(7, "veth9")), [DeviceEvent::Release { index: 7, vanished: false }]);
}

#[test]
fn after_lost_events_a_new_dump_finds_what_came_and_what_went() {
    let mut devices = devices();
    devices.replace([device(7, "eni7"), device(8, "eni8"), address(1, "127.0.0.1")]);
    let events = devices.replace([device(8, "eni8"), device(9, "eni9"), address(2, "10.0.0.5")]);
    assert_eq!(
        events,
        [attach(9, "eni9"), DeviceEvent::Release { index: 7, vanished: true }, addresses(&["10.0.0.5"])]
    );
}

#[test]
fn an_address_on_two_devices_stays_the_nodes_until_both_lose_it() {
    let mut devices = devices();
    assert_eq!(settled(&mut devices, [address(2, "169.254.20.10")]), Some(addresses(&["169.254.20.10"])));
    assert_eq!(settled(&mut devices, [address(3, "169.254.20.10")]), None);
    assert_eq!(settled(&mut devices, [gone(2, "169.254.20.10")]), None);
    assert_eq!(settled(&mut devices, [Heard::DeviceGone { index: 3 }]), Some(addresses(&[])));
}

#[test]
fn a_burst_of_addresses_is_told_once_and_one_that_ends_as_it_began_not_at_all() {
    let mut devices = devices();
    let burst = ["10.0.0.5", "10.0.0.6", "10.0.0.7"];
    assert_eq!(settled(&mut devices, burst.map(|ip| address(2, ip))), Some(addresses(&burst)));
    assert_eq!(settled(&mut devices, [gone(2, "10.0.0.5"), address(2, "10.0.0.5")]), None);
    assert_eq!(settled(&mut devices, burst.map(|ip| gone(2, ip))), Some(addresses(&[])));
}

#[test]
fn the_addresses_of_kube_proxys_device_are_services_and_those_of_node_local_dnscache_the_nodes() {
    let mut devices = devices();
    let events = devices.replace([
        device(2, "kube-ipvs0"),
        address(2, "10.96.0.1"),
        address(2, "10.96.0.10"),
        device(3, "nodelocaldns"),
        address(3, "10.96.0.10"),
    ]);
    assert_eq!(events, [DeviceEvent::ServicesOfKubeProxy, addresses(&["10.96.0.10"])]);
    assert_eq!(settled(&mut devices, [address(2, "10.96.0.2"), gone(2, "10.96.0.1")]), None);
    assert_eq!(devices.hear(device(2, "kube-ipvs0")), [], "it is spoken of once");
    assert_eq!(settled(&mut devices, [device(2, "kube-ipvs1")]), Some(addresses(&["10.96.0.10", "10.96.0.2"])));
    assert_eq!(settled(&mut devices, [device(2, "kube-ipvs0")]), Some(addresses(&["10.96.0.10"])));
    assert_eq!(settled(&mut devices, [Heard::DeviceGone { index: 2 }]), None);
    assert_eq!(devices.hear(device(4, "kube-ipvs0")), [], "nor when another kube-proxy makes it anew");
}

#[test]
fn an_empty_prefix_matches_no_device() {
    let mut devices = Devices::new(Selection { veth_prefix: String::new(), uplinks: BTreeSet::new() });
    assert_eq!(devices.hear(device(2, "eth0")), []);
}

#[test]
fn where_no_uplink_is_named_those_of_routes_out_of_the_node_are() {
    let mut devices = Devices::new(Selection { veth_prefix: "eni".into(), uplinks: BTreeSet::new() });
    let route = |indices: &[u32]| Heard::RouteOut { indices: indices.into() };
    assert_eq!(devices.hear(device(2, "eth0")), []);
    assert_eq!(devices.hear(route(&[2])), [uplink(2, "eth0")]);
    assert_eq!(devices.hear(route(&[2])), []);
    let events = devices.replace([device(2, "eth0"), device(3, "wlan0")]);
    assert_eq!(events, [addresses(&[])], "a route that is being replaced takes no programs away");
    assert_eq!(devices.hear(route(&[2, 3])), [uplink(3, "wlan0")]);
    assert_eq!(devices.hear(Heard::DeviceGone { index: 2 }), [DeviceEvent::Release { index: 2, vanished: true }]);
    assert_eq!(devices.hear(device(2, "eth0")), [], "its index says nothing of the next device");
}

#[test]
fn the_addresses_of_uplinks_are_told_apart_from_those_of_other_devices() {
    let mut devices = devices();
    for heard in [device(2, "eth0"), device(3, "eth1"), device(4, "eni1")] {
        devices.hear(heard);
    }
    for (index, ip) in [(2, "10.0.0.1"), (3, "10.1.0.1"), (3, "fd01::1"), (4, "169.254.1.1")] {
        devices.hear(address(index, ip));
    }
    let told = ["10.1.0.1", "fd01::1"].map(|ip| ip.parse().unwrap());
    assert_eq!(devices.outward(), DeviceEvent::Outward(told.into()));
}

#[test]
fn a_device_without_ethernet_headers_is_named_and_not_attached_to() {
    let mut devices = Devices::new(Selection { veth_prefix: "eni".into(), uplinks: BTreeSet::new() });
    let tunnel = || Heard::Device { index: 2, name: "wg0".into(), link: Link::Unframed };
    let named = || DeviceEvent::Unframed { name: "wg0".into() };
    assert_eq!(devices.hear(tunnel()), [], "nobody wants it");
    assert_eq!(devices.hear(Heard::RouteOut { indices: vec![2] }), [named()]);
    assert_eq!(devices.hear(tunnel()), [], "it is spoken of once");
    assert_eq!(devices.replace([tunnel()]), [addresses(&[])]);
    let framed = || Heard::Device { index: 2, name: "wg0".into(), link: Link::Framed };
    assert_eq!(devices.hear(framed()), [uplink(2, "wg0")], "a bond, whose first device came");
    assert_eq!(devices.hear(tunnel()), [DeviceEvent::Release { index: 2, vanished: false }, named()], "and another");
    assert_eq!(devices.hear(Heard::DeviceGone { index: 2 }), []);
    assert_eq!(devices.hear(device(2, "eni2")), [attach(2, "eni2")], "its index says nothing of the next device");
}

#[test]
fn a_device_with_the_address_that_the_cluster_knows_the_node_by_is_an_uplink_whichever_is_heard_of_first() {
    let mut devices = Devices::new(Selection { veth_prefix: "eni".into(), uplinks: BTreeSet::new() });
    let own = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    for heard in
        [device(2, "eth0"), device(3, "eth1"), device(4, "docker0"), address(2, "10.0.0.1"), address(4, "172.17.0.1")]
    {
        assert_eq!(devices.hear(heard), []);
    }
    assert_eq!(devices.own(own(&["10.0.0.1", "fd01::1"])), [uplink(2, "eth0")]);
    assert_eq!(devices.hear(address(3, "fd01::1")), [uplink(3, "eth1")]);
    assert_eq!(devices.hear(gone(2, "10.0.0.1")), [], "a lease may come back");
    assert_eq!(devices.own(own(&["10.0.0.1"])), []);
    let events = devices.replace([device(2, "eth0"), device(5, "eth2"), address(5, "10.0.0.1")]);
    let gone = |index| DeviceEvent::Release { index, vanished: true };
    assert_eq!(events, [uplink(5, "eth2"), gone(3), addresses(&["10.0.0.1"])]);
}

#[test]
fn an_address_on_lo_or_of_kube_proxys_does_not_make_an_uplink() {
    let mut devices = Devices::new(Selection { veth_prefix: "eni".into(), uplinks: BTreeSet::new() });
    assert_eq!(devices.own(["10.255.0.1".parse().unwrap()].into()), []);
    assert_eq!(devices.hear(Heard::Device { index: 1, name: "lo".into(), link: Link::Loopback }), []);
    assert_eq!(devices.hear(address(1, "10.255.0.1")), []);
    devices.hear(device(2, "kube-ipvs0"));
    assert_eq!(devices.hear(address(2, "10.255.0.1")), [], "a service's external IP");
}

#[test]
fn an_operator_who_names_uplinks_decides() {
    let mut devices = devices();
    assert_eq!(devices.own(["10.0.0.1".parse().unwrap()].into()), []);
    assert_eq!(devices.hear(address(2, "10.0.0.1")), []);
    assert_eq!(devices.hear(Heard::RouteOut { indices: vec![2] }), []);
    assert_eq!(devices.hear(device(2, "eth0")), []);
}
