//! XDP remembers the way of a flow for a moment: what it sends goes where the kernel's routes and neighbours say now, as
//! far as the agent has heard, or a moment ago.

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use millrace_common::verdict::Verdict;
use millrace_tests::{
    address::in_family,
    packet::{Packet, Seen},
    test_run::{self, Action, Outcome},
};

use crate::{
    rig::{Rig, answer},
    uplink::{Cast, Node, casts, node_port},
};

const PATIENCE: Duration = Duration::from_secs(60);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
/// Which the packets of the harness are sent to.
const UPLINK_MAC: &str = "02:00:00:00:00:02";

/// The last byte of the router's MAC, from now on.
fn router_is(node: &Node, last: u8) {
    let known = |v6| {
        format!("neighbour replace {} lladdr 02:00:00:00:fe:{last:02x} dev uplink nud permanent", in_family(ROUTER, v6))
    };
    node.network.node("n1").unwrap().netns.ip(&[known(false), known(true)]).unwrap();
}

/// What the agent does when it hears of a change.
fn tell(rig: &mut Rig) {
    let count = rig.array::<u64>("ROUTE_CHANGES").get(&0, 0).unwrap();
    rig.store("ROUTE_CHANGES", 0, count + 1);
}

/// A conversation of a client outside with a backend elsewhere, established by XDP.
struct World {
    node: Node,
    rig: Rig,
    question: Packet,
    reply: Packet,
}

impl World {
    fn new(cast: &Cast) -> Self {
        let node = Node::new();
        node.network.node("n1").unwrap().netns.ip(&[format!("link set uplink address {UPLINK_MAC}")]).unwrap();
        router_is(&node, 1);
        let mut rig = Rig::new();
        node_port(&mut rig, cast, &[(1, cast.elsewhere)]);
        let question = Packet::udp(cast.client, cast.node_port, b"question");
        let mut world = Self { node, rig, reply: question.clone(), question };
        let seen = world.sent(&world.question.clone(), 1).source;
        world.reply = answer(&world.question, cast.elsewhere, seen);
        world.sent(&world.reply.clone(), 1);
        world
    }

    fn meets_by(&self, device: u32, packet: &Packet) -> Outcome {
        let n1 = self.node.network.node("n1").unwrap();
        n1.netns.run(|| test_run::run_xdp(self.rig.xdp(), &packet.frame(), device).unwrap()).unwrap()
    }

    fn meets(&self, packet: &Packet) -> Outcome {
        self.meets_by(self.node.uplink, packet)
    }

    /// It goes to the router that has this MAC.
    fn sent(&self, packet: &Packet, router: u8) -> Seen {
        let out = self.meets(packet);
        assert_eq!((out.action, to(&out)), (Action::Transmit, router), "{out:?}");
        let seen = out.seen().unwrap();
        assert!(seen.checksums_hold(), "{seen:#?}");
        seen
    }

    fn both(&self) -> [Packet; 2] {
        [self.question.clone(), self.reply.clone()]
    }
}

/// The last byte of the MAC that a packet is sent to.
fn to(out: &Outcome) -> u8 {
    out.frame[5]
}

#[test]
fn a_change_that_the_agent_hears_of_is_followed_at_once() {
    for cast in casts() {
        let mut world = World::new(&cast);
        for router in 2..40 {
            for packet in world.both() {
                world.sent(&packet, router - 1);
            }
            router_is(&world.node, router);
            tell(&mut world.rig);
            for packet in world.both().iter().chain(&world.both()) {
                world.sent(packet, router);
            }
        }
        // Another way altogether.
        let hop = in_family(Ipv4Addr::new(10, 0, 0, 253), cast.client.is_ipv6());
        let known = format!("neighbour replace {hop} lladdr 02:00:00:00:fe:99 dev uplink nud permanent");
        let routes =
            [cast.elsewhere, cast.client].map(|end| format!("route replace {} via {hop} dev uplink", end.ip()));
        let n1 = &world.node.network.node("n1").unwrap().netns;
        n1.ip(&[known]).unwrap();
        n1.ip(&routes).unwrap();
        tell(&mut world.rig);
        for packet in world.both() {
            world.sent(&packet, 0x99);
        }
    }
}

/// No agent runs. That anything is remembered at all is seen on the way.
#[test]
fn a_change_that_nobody_hears_of_is_followed_soon() {
    for cast in casts() {
        let world = World::new(&cast);
        for packet in world.both() {
            let mut remembered = false;
            // A moment may end between two packets, not each time.
            for attempt in 0..20 {
                let (before, after) = (2 + attempt % 2, 3 - attempt % 2);
                router_is(&world.node, before);
                wait_until("the way is the new one", || to(&world.meets(&packet)) == before);
                router_is(&world.node, after);
                remembered |= to(&world.meets(&packet)) == before;
                wait_until("the way is the newest", || to(&world.meets(&packet)) == after);
                if remembered {
                    break;
                }
            }
            assert!(remembered, "the kernel is asked for every packet");
        }
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so after {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// That a small packet has passed says nothing of a large one.
#[test]
fn a_packet_that_does_not_fit_is_left_to_tc_though_others_passed() {
    for cast in casts() {
        let world = World::new(&cast);
        for packet in world.both() {
            world.sent(&packet, 1);
            let large = packet.payload(&[7; 1600]);
            let out = world.meets(&large);
            assert_eq!((out.action, out.frame), (Action::Next, large.frame()));
        }
        assert_eq!(world.rig.count(Verdict::XdpLeft), 2, "{:?}", world.rig.counts());
    }
}

/// What holds for packets that come by the uplink says nothing of those that come by another device.
#[test]
fn a_flow_that_comes_by_another_device_is_asked_for() {
    for cast in casts() {
        let world = World::new(&cast);
        let n1 = &world.node.network.node("n1").unwrap().netns;
        n1.ip(&["link add other type veth peer name far", "link set other up", "link set far up"]).unwrap();
        let other = n1.run(|| nix::net::if_::if_nametoindex("other").unwrap()).unwrap();
        for packet in world.both() {
            world.sent(&packet, 1);
            let out = world.meets_by(other, &packet);
            assert_eq!((out.action, out.frame), (Action::Next, packet.frame()), "the uplink is no target here");
        }
    }
}
