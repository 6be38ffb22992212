//! Whatever there was and whatever is wanted, the difference leads from one to the other.

use std::collections::BTreeMap;

use millrace_agent::{
    diff::{Planner, dump},
    lb::{Set, WantedPort},
    model::ServiceKey,
};
use millrace_common::{frontend::FrontendKind, service::Attributes};
use proptest::prelude::*;

use crate::{
    node::{Node, SIZES},
    support::wanted::{endpoints, frontend, port, set},
};

fn any_port() -> impl Strategy<Value = WantedPort> {
    let hosts = || prop::collection::btree_set(1u8..6, 0..4).prop_map(|hosts| hosts.into_iter().collect::<Vec<u8>>());
    let kind = prop_oneof![Just(FrontendKind::ClusterIp), Just(FrontendKind::ExternalIp)];
    (1u8..6, hosts(), prop::option::of(hosts()), hosts(), kind, any::<bool>(), 0u64..4).prop_map(
        |(service, cluster, local, serving, kind, renamed, flags)| {
            let mut port = port(service, &cluster);
            port.local = local.map_or(Set::Unused, |local| set(service, &local));
            port.serving.extend(endpoints(service, &serving));
            port.serving.sort_unstable();
            port.serving.dedup();
            port.frontends.insert(frontend(service + 100), kind);
            port.attributes = Attributes::new(flags, 0);
            if renamed {
                port.name.port = "web".into();
            }
            port
        },
    )
}

fn wanted() -> impl Strategy<Value = BTreeMap<ServiceKey, Vec<WantedPort>>> {
    prop::collection::vec(any_port(), 0..5)
        .prop_map(|ports| ports.into_iter().map(|port| (port.name.service.clone(), vec![port])).collect())
}

fn bring_all(node: &mut Node, wanted: &BTreeMap<ServiceKey, Vec<WantedPort>>) -> usize {
    let gone: Vec<ServiceKey> = node.planner.services().filter(|key| !wanted.contains_key(*key)).cloned().collect();
    let gone = gone.iter().map(|key| (key, [].as_slice()));
    let plan = node.planner.plan(wanted.iter().map(|(key, ports)| (key, ports.as_slice())).chain(gone));
    let outcome = node.write(&plan);
    assert!(outcome.errors.is_empty() && plan.refused.is_empty());
    plan.steps.len()
}

fn settled(node: &mut Node) -> String {
    while !node.grace().is_empty() {}
    dump(&node.tables.snapshot())
}

proptest! {
    #[test]
    fn the_difference_applied_to_one_state_gives_the_other(a in wanted(), b in wanted()) {
        let (mut node, mut fresh) = (Node::new(), Node::new());
        bring_all(&mut node, &a);
        bring_all(&mut node, &b);
        bring_all(&mut fresh, &b);
        prop_assert_eq!(settled(&mut node), settled(&mut fresh));
        prop_assert_eq!(bring_all(&mut node, &b), 0, "what is there takes no operation");
        // So it is for an agent that starts anew over these maps.
        node.planner = Planner::restore(&node.tables.snapshot(), SIZES);
        let chores = node.planner.chores();
        node.write(&chores);
        prop_assert_eq!(bring_all(&mut node, &b), 0, "nor does it after a restart");
        bring_all(&mut node, &BTreeMap::new());
        prop_assert_eq!(settled(&mut node), "");
    }
}
