//! Who may use a load balancer's VIP.

use std::net::{Ipv4Addr, SocketAddr};

use millrace_common::{address::protocol, frontend::FrontendKind, service::Attributes, verdict::Verdict};
use millrace_tests::{address::in_family, test_run::Action};

use crate::{
    rig::{Rig, openings},
    uplink::{Cast, Node, casts, node_port},
};

/// A VIP beside the node port of service 1, guarded by source ranges, of which there are none yet.
pub(crate) fn guarded(rig: &mut Rig, cast: &Cast) -> SocketAddr {
    let vip = SocketAddr::new(cast.router.ip(), 80);
    node_port(rig, cast, &[(1, cast.elsewhere)]);
    for protocol in [protocol::TCP, protocol::UDP] {
        rig.frontend(1, vip, protocol, FrontendKind::LoadBalancer);
    }
    rig.attributes(1, Attributes::new(Attributes::SOURCE_RANGES, 0));
    vip
}

/// Source ranges guard the load balancer's VIP, whoever asks: a client outside, a pod, a process of the node. They guard
/// nothing else.
#[test]
fn only_clients_of_the_source_ranges_use_a_vip() {
    let node = Node::new();
    for cast in casts() {
        let mut rig = Rig::new();
        let vip = guarded(&mut rig, &cast);
        // Another service's ranges let nobody in here.
        rig.lets_in(2, cast.client.ip(), 16);
        let pod = SocketAddr::new(in_family(Ipv4Addr::new(192, 168, 1, 12), vip.is_ipv6()), 40_000);
        let process = SocketAddr::new(cast.node_port.ip(), 40_000);
        for at in [0, 1] {
            let open = at == 1;
            if open {
                for ip in [cast.client.ip(), pod.ip(), process.ip()] {
                    rig.lets_in(1, ip, if ip.is_ipv4() { 24 } else { 64 });
                }
            }
            let outcomes = openings(cast.client, vip).map(|packet| node.gets(&rig, &packet).action);
            assert_eq!(outcomes, [if open { Action::Redirect } else { Action::Drop }; 2]);
            let outcomes = openings(pod, vip).map(|packet| rig.pod_sends(&packet).action);
            assert_eq!(outcomes, [if open { Action::Next } else { Action::Drop }; 2]);
            let outcomes = openings(process, vip).map(|packet| node.sends(&rig, &packet).action);
            assert_eq!(outcomes, [if open { Action::Redirect } else { Action::Drop }; 2]);
            let guarded = openings(cast.client, cast.node_port).map(|packet| node.gets(&rig, &packet).action);
            assert_eq!(guarded, [Action::Redirect; 2], "the node port is not guarded");
        }
        assert_eq!(rig.count(Verdict::DropSourceRange), 6, "{:?}", rig.counts());
    }
}
