//! May pods' packets go past the node's stack, and between which devices? Pure.

use std::collections::{BTreeMap, BTreeSet};

use millrace_common::maps::POD_DEVICES;

use super::{
    HostRoutingMode,
    chains::{Chain, FAMILY_INET, FAMILY_IPV4, FAMILY_IPV6, FAMILY_NETDEV},
};

/// `NF_INET_PRE_ROUTING`, `NF_INET_FORWARD` and `NF_INET_POST_ROUTING`: where packets from pod to pod come by.
const FORWARDING: [u32; 3] = [0, 2, 4];
/// `NF_INET_INGRESS`: of a device.
const INET_INGRESS: u32 = 5;

/// What a packet may meet on its way through the node.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Of nf_tables.
    pub chains: Vec<Chain>,
    /// Tables of iptables' legacy back end: the kernel calls them whether they have rules or not.
    pub legacy: Vec<String>,
    /// The kernel balances services itself (IPVS).
    pub ipvs: bool,
    /// Policies of IPsec, for whatever packets.
    pub ipsec: bool,
    /// A routing rule that asks for more than addresses and devices.
    pub rule: Option<String>,
    pub pods: BTreeMap<u32, Device>,
}

/// The host side of a pod's veth.
#[derive(Debug, Default, Clone)]
pub(super) struct Device {
    pub name: String,
    /// A veth whose other end is in another network namespace.
    pub leads_elsewhere: bool,
    /// `noqueue`, or whatever delays packets on purpose.
    pub queue: String,
    /// Programs or filters that are not ours.
    pub strangers: bool,
    /// A route over it says what fits, or shares packets out among devices: the kernel does not tell the programs.
    pub special: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// Why everything goes by the stack.
    pub reason: Option<String>,
    /// Between these, packets go past it.
    pub devices: BTreeSet<u32>,
    /// Devices whose packets go by the stack, and why.
    pub apart: BTreeMap<String, String>,
}

pub(super) fn decide(mode: HostRoutingMode, survey: &Survey) -> Decision {
    let reason = match mode {
        HostRoutingMode::Off => Some("--host-routing off".to_owned()),
        HostRoutingMode::Always => survey.rule.clone(),
        HostRoutingMode::Auto => survey.rule.clone().or_else(|| firewall(survey)),
    };
    let mut decision = Decision { reason, ..Decision::default() };
    if decision.reason.is_some() {
        return decision;
    }
    for (index, device) in survey.pods.iter().take(POD_DEVICES as usize) {
        match apart(device, &survey.chains) {
            Some(why) => drop(decision.apart.insert(device.name.clone(), why)),
            None => drop(decision.devices.insert(*index)),
        }
    }
    decision
}

/// Whoever wants to see packets on their way through the node.
fn firewall(survey: &Survey) -> Option<String> {
    if let Some(chain) = survey.chains.iter().find(|chain| is_on_the_way(chain) && does_something(chain)) {
        return Some(format!("the chain {} {} of nf_tables sees what is forwarded", chain.table, chain.name));
    }
    if let Some(table) = survey.legacy.first() {
        return Some(format!("iptables (legacy) has the table {table}"));
    }
    if survey.ipvs {
        return Some("the kernel has services of IPVS".to_owned());
    }
    survey.ipsec.then(|| "the kernel has policies of IPsec".to_owned())
}

fn is_on_the_way(chain: &Chain) -> bool {
    matches!(chain.family, FAMILY_INET | FAMILY_IPV4 | FAMILY_IPV6) && FORWARDING.contains(&chain.hook)
}

/// A chain of nat keeps connections that it translated alive even when it has no rule any more.
fn does_something(chain: &Chain) -> bool {
    chain.rules > 0 || !chain.accepts || chain.kind == "nat"
}

fn apart(device: &Device, chains: &[Chain]) -> Option<String> {
    if !device.leads_elsewhere {
        return Some("it is no veth that leads to another network namespace".to_owned());
    }
    if device.queue != "noqueue" {
        return Some(format!("it has a queue ({})", device.queue));
    }
    if device.strangers {
        return Some("another's program or filter is on it".to_owned());
    }
    if device.special {
        return Some("a route over it has an MTU of its own, or several next hops".to_owned());
    }
    let of_devices =
        |chain: &&Chain| chain.family == FAMILY_NETDEV || (chain.family == FAMILY_INET && chain.hook == INET_INGRESS);
    let chain = chains.iter().filter(of_devices).filter(|chain| does_something(chain));
    let mut names = chain.filter(|chain| chain.devices.iter().any(|name| device.name.starts_with(name.as_str())));
    names.next().map(|chain| format!("the chain {} {} of nf_tables is on it", chain.table, chain.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> BTreeMap<u32, Device> {
        let device = |name: &str| Device {
            name: name.to_owned(),
            leads_elsewhere: true,
            queue: "noqueue".to_owned(),
            strangers: false,
            special: false,
        };
        [(7, device("eni7")), (8, device("eni8"))].into()
    }

    fn forward() -> Chain {
        Chain { family: FAMILY_INET, table: "t".into(), name: "c".into(), hook: 2, accepts: true, ..Chain::default() }
    }

    fn auto(survey: &Survey) -> Decision {
        decide(HostRoutingMode::Auto, survey)
    }

    #[test]
    fn where_nothing_looks_at_packets_all_pods_reach_each_other_directly() {
        let survey = Survey { pods: pods(), ..Survey::default() };
        assert_eq!(auto(&survey), Decision { devices: [7, 8].into(), ..Decision::default() });
        assert_eq!(decide(HostRoutingMode::Off, &survey).devices, [].into());
    }

    #[test]
    fn whoever_filters_or_translates_what_is_forwarded_sees_all_of_it() {
        for chain in [
            Chain { rules: 1, ..forward() },
            Chain { accepts: false, ..forward() },
            Chain { kind: "nat".into(), ..forward() },
            Chain { rules: 1, hook: 0, family: FAMILY_IPV4, ..forward() },
            Chain { rules: 1, hook: 4, family: FAMILY_IPV6, ..forward() },
        ] {
            let survey = Survey { chains: vec![chain.clone()], pods: pods(), ..Survey::default() };
            let decision = auto(&survey);
            assert_eq!(
                decision.reason.as_deref(),
                Some("the chain t c of nf_tables sees what is forwarded"),
                "{chain:?}"
            );
            assert_eq!(decision.devices, [].into());
            assert_eq!(decide(HostRoutingMode::Always, &survey).devices.len(), 2, "the operator knows better");
        }
        let legacy = Survey { legacy: vec!["mangle".into()], pods: pods(), ..Survey::default() };
        assert_eq!(auto(&legacy).reason.as_deref(), Some("iptables (legacy) has the table mangle"));
        assert!(auto(&Survey { ipvs: true, pods: pods(), ..Survey::default() }).reason.is_some());
        assert!(auto(&Survey { ipsec: true, pods: pods(), ..Survey::default() }).reason.is_some());
    }

    #[test]
    fn what_does_nothing_to_forwarded_packets_keeps_nobody_back() {
        for chain in [
            forward(),
            Chain { rules: 9, accepts: false, hook: 1, ..forward() },
            Chain { rules: 9, hook: 3, ..forward() },
        ] {
            let survey = Survey { chains: vec![chain.clone()], pods: pods(), ..Survey::default() };
            assert_eq!(auto(&survey).devices.len(), 2, "{chain:?}");
        }
    }

    #[test]
    fn a_device_on_which_something_waits_for_packets_goes_without() {
        let spoil: [fn(&mut Device); 4] = [
            |device| device.leads_elsewhere = false,
            |device| device.queue = "tbf".to_owned(),
            |device| device.strangers = true,
            |device| device.special = true,
        ];
        for spoil in spoil {
            let mut pods = pods();
            spoil(pods.get_mut(&8).unwrap());
            let decision = decide(HostRoutingMode::Always, &Survey { pods, ..Survey::default() });
            assert_eq!((decision.devices, decision.apart.len()), ([7].into(), 1), "{:?}", decision.apart);
        }
        let ingress = Chain { family: FAMILY_NETDEV, hook: 0, rules: 1, devices: vec!["eni8".into()], ..forward() };
        let survey = Survey { chains: vec![ingress], pods: pods(), ..Survey::default() };
        assert_eq!(auto(&survey).devices, [7].into());
    }

    /// Paths are remembered by addresses and devices: a rule that asks for ports would be passed by.
    #[test]
    fn a_rule_that_asks_for_ports_keeps_everything_on_the_stack() {
        let survey = Survey { rule: Some("rule 100 asks for ports".into()), pods: pods(), ..Survey::default() };
        for mode in [HostRoutingMode::Auto, HostRoutingMode::Always] {
            assert_eq!(decide(mode, &survey).devices, [].into());
        }
    }
}
