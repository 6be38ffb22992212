//! A node with a second uplink: clients come by it, and no route leads back to them over it, or only one that a rule on
//! the source names; or an endpoint is behind it. Routes to endpoints that only such a rule names.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use aya::maps::{HashMap, Map, MapData};
use millrace_agent::datapath::Pins;
use millrace_common::{router::Router, verdict::Verdict};
use millrace_tests::{
    address::in_family,
    agent::Agent,
    cable, client,
    manifests::{Endpoint, Service},
    netns::Netns,
    network::OUTSIDE,
    packet::{Flags, Packet},
    place::{self, Place},
    probe::{Manner, Outcome, Protocol},
    wire::Wire,
};

use crate::world::{Backend, Entry, N1, NODE_PORT, PATIENCE, World, name, servers, service, worlds};

const PORT: u16 = 8090;
/// The node's, and its neighbour's, on the second uplink.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 254);
/// Beyond that neighbour, on no link of the node's.
const FAR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 9);

/// Beyond the neighbour, too.
const POD: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 7);

/// Gives n1 its second uplink. Neighbour and client are one namespace; nobody answers for the client's address on the link.
fn second_uplink(world: &World) -> Netns {
    let far = Netns::create("far").unwrap();
    let node = world.network.node("n1").unwrap();
    node.netns.ip(&[format!("link add uplink2 type veth peer name eth0 netns {}", far.name)]).unwrap();
    far.sysctl(&[("ipv4/conf/all/arp_ignore", "1")]).unwrap();
    for (netns, device, address) in [(&node.netns, "uplink2", OWN), (&far, "eth0", NEIGHBOUR)] {
        netns.ip(&[format!("link set {device} up")]).unwrap();
        for v6 in [false, true] {
            let (address, prefix, options) =
                (in_family(address, v6), if v6 { 64 } else { 24 }, if v6 { "nodad" } else { "" });
            netns.ip(&[format!("address add {address}/{prefix} dev {device} {options}").trim_end()]).unwrap();
        }
    }
    for v6 in [false, true] {
        let (client, node, length) = (in_family(FAR, v6), in_family(OWN, v6), if v6 { 128 } else { 32 });
        far.ip(&[
            format!("address add {client}/{length} dev lo {}", if v6 { "nodad" } else { "" }).trim_end().to_owned(),
            format!("route add {node}/{length} dev eth0 src {client}"),
        ])
        .unwrap();
    }
    // Native XDP sends to the other end of a cable.
    if world.entry != Entry::Tc {
        far.run(|| cable::like_a_cable("eth0")).unwrap().unwrap();
    }
    far.wait_for_address(millrace_tests::address::twin(NEIGHBOUR)).unwrap();
    far
}

/// No route leads over the second.
fn name_both(world: &mut World) {
    world.agent = None;
    let mut arguments = world.entry.arguments().to_vec();
    arguments.extend(["--device", "uplink", "--device", "uplink2"]);
    let n1 = world.network.node("n1").unwrap();
    world.agent = Some(Agent::start(n1, &world.manifests, &arguments).unwrap());
}

/// Packets from that source are routed by a table of their own.
fn rule(netns: &Netns, v6: bool, table: u32, source: IpAddr) {
    let (family, table, source) = (if v6 { "-6" } else { "-4" }, table.to_string(), source.to_string());
    let arguments = ["-n", &netns.name, family, "rule", "add", "from", &source, "lookup", &table];
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "{arguments:?}");
}

/// The node port at this address, over both protocols and in both families, leads `place` to the backend.
fn all_reach(place: &Place, own: Ipv4Addr, backend: Backend, when: &str) {
    for v6 in [false, true] {
        let to = SocketAddr::new(in_family(own, v6), NODE_PORT);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let attempts = client::connect(place, &[to], 3, &Manner::of(protocol)).unwrap();
            let served = |outcome: &Outcome| outcome.server() == Some(&name(backend));
            assert!(
                attempts.iter().all(|attempt| served(&attempt.outcome)),
                "{when}: {to} {protocol:?}, {backend:?}: {attempts:?}"
            );
        }
    }
}

/// Answers leave by the uplink that the client came by: to the router that it came over where the node knows no other,
/// and by the routes of a policy rule where there is one.
#[test]
fn answers_find_a_client_that_only_its_own_uplink_leads_to() {
    for mut world in worlds() {
        let far = second_uplink(&world);
        name_both(&mut world);
        let place = Place { netns: far.handle(), cgroup: place::root().unwrap() };
        let _servers = servers(&world, &Backend::ALL, PORT);
        for backend in [Backend::Here, Backend::There, Backend::OtherHost] {
            world.serve(&service(&[backend], PORT));
            all_reach(&place, OWN, backend, "no route back");
        }
        let n1 = &world.network.node("n1").unwrap().netns;
        for v6 in [false, true] {
            let (own, neighbour) = (in_family(OWN, v6), in_family(NEIGHBOUR, v6));
            n1.ip(&[format!("route add default via {neighbour} dev uplink2 table 200")]).unwrap();
            rule(n1, v6, 200, own);
        }
        for backend in Backend::ALL {
            world.serve(&service(&[backend], PORT));
            all_reach(&place, OWN, backend, "a rule on the source");
        }
        // There is room for the routers of 64 devices, and devices come and go.
        assert_eq!(routers(&world), 1);
        world.network.node("n1").unwrap().netns.ip(&["link del uplink2"]).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while routers(&world) > 0 {
            assert!(Instant::now() < deadline, "the router of a device that is gone is remembered");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// How many devices have one that clients came by.
fn routers(world: &World) -> usize {
    let pins = Pins::at(&world.network.node("n1").unwrap().bpffs.path);
    let map = Map::from_map_data(MapData::from_pin(pins.map("ROUTERS")).unwrap()).unwrap();
    HashMap::<_, u32, Router>::try_from(map).unwrap().keys().count()
}

/// The way to an endpoint that a rule on the source names, and no route of the main table.
#[test]
fn an_endpoint_is_reached_by_the_route_of_a_rule_on_the_source() {
    for mut world in worlds() {
        let _servers = servers(&world, &[Backend::There], PORT);
        let n1 = &world.network.node("n1").unwrap().netns;
        for v6 in [false, true] {
            let pods = in_family(Ipv4Addr::new(192, 168, 2, 0), v6);
            let (length, via, own) =
                (if v6 { 64 } else { 24 }, in_family(Ipv4Addr::new(10, 0, 0, 2), v6), in_family(N1, v6));
            n1.ip(&[
                format!("route del {pods}/{length}"),
                format!("route add unreachable {pods}/{length}"),
                format!("route add {pods}/{length} via {via} dev uplink table 201"),
            ])
            .unwrap();
            rule(n1, v6, 201, own);
        }
        world.serve(&service(&[Backend::There], PORT));
        all_reach(&world.outside(), N1, Backend::There, "a rule on the source");
        world.assert_served_as_entered();
    }
}

/// The pod beyond the neighbour, as the Service's only endpoint.
fn pod_beyond() -> Service {
    let endpoints =
        [false, true].map(|v6| Endpoint { address: in_family(POD, v6), node: "n3".into(), terminating: false });
    Service { endpoints: endpoints.into(), ..service(&[], PORT) }
}

/// Clients of the first uplink are answered by the pod, over both protocols and in both families.
fn the_pod_beyond_answers(world: &World) {
    for v6 in [false, true] {
        let to = SocketAddr::new(in_family(N1, v6), NODE_PORT);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let manner = Manner { timeout: 5000, ..Manner::of(protocol) };
            let attempts = client::connect(&world.outside(), &[to], 4, &manner).unwrap();
            let served = attempts.iter().all(|attempt| attempt.outcome.server() == Some("beyond"));
            assert!(served && attempts.len() == 4, "{to} {protocol:?}: {attempts:?}");
        }
    }
}

/// Nobody names devices; a route says by which one an endpoint is to be reached, and its answers come by that one.
#[test]
fn an_endpoint_behind_a_router_on_a_second_device_answers_clients_of_the_first() {
    for mut world in worlds() {
        let far = second_uplink(&world);
        let place = Place { netns: far.handle(), cgroup: place::root().unwrap() };
        let n1 = &world.network.node("n1").unwrap().netns;
        for v6 in [false, true] {
            let (pod, length) = (in_family(POD, v6), if v6 { 128 } else { 32 });
            far.ip(&[
                format!("address add {pod}/{length} dev lo {}", if v6 { "nodad" } else { "" }).trim_end().to_owned(),
                format!("route add {} via {} dev eth0 src {pod}", in_family(N1, v6), in_family(OWN, v6)),
            ])
            .unwrap();
            n1.ip(&[format!("route add {pod}/{length} via {} dev uplink2", in_family(NEIGHBOUR, v6))]).unwrap();
        }
        let _server = client::serve(&place, "beyond", PORT).unwrap();
        world.serve(&pod_beyond());
        the_pod_beyond_answers(&world);
        world.assert_served_as_entered();
    }
}

/// A VLAN's packets come by the device that carries it first, with the tag beside them: they are the VLAN's own device's. A tag
/// of number 0 says how urgent a packet is, and no more.
#[test]
fn packets_in_a_vlan_are_left_to_its_own_device_and_those_with_a_priority_are_served() {
    let mut world = worlds().next().unwrap();
    let _servers = servers(&world, &[Backend::Here], PORT);
    world.serve(&service(&[Backend::Here], PORT));
    let [n1, n2] = ["n1", "n2"].map(|name| world.network.node(name).unwrap());
    n1.netns.ip(&["link set uplink address 02:55:00:00:00:01"]).unwrap();
    let link = Wire::open(&n2.netns, "uplink").unwrap();
    let before = n1.count(Verdict::PacketNewFlow).unwrap();
    for (port, vlan) in [(4001, Some(7)), (4002, Some(0)), (4003, None)] {
        let (client, to) = ((OUTSIDE, port).into(), (N1, NODE_PORT).into());
        let mut packet = Packet::tcp(client, to, Flags::SYN);
        packet.destination_mac = [0x02, 0x55, 0, 0, 0, 1];
        packet.vlan = vlan;
        link.send(&packet.frame()).unwrap();
    }
    let begun = || n1.count(Verdict::PacketNewFlow).unwrap() - before;
    let deadline = Instant::now() + PATIENCE;
    while begun() < 2 {
        assert!(Instant::now() < deadline, "of those outside of the VLAN {} were served", begun());
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(begun(), 2);
}
