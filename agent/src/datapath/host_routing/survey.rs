//! Looks at everything that may want to see packets on their way from pod to pod.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::{Ipv4Addr, Ipv6Addr},
};

use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};
use futures::TryStreamExt as _;
use rtnetlink::{
    Handle, IpVersion, RouteMessageBuilder,
    packet_route::{
        link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
        route::{RouteAttribute, RouteMetric},
        rule::{RuleAttribute, RuleMessage},
        tc::TcMessage,
    },
};

use super::{
    chains::base_chains,
    decide::{Device, Survey},
    ipsec::has_policies,
};
use crate::datapath::tc;

/// Of these devices, and of the whole network namespace. `ours`: the ids of our programs.
///
/// # Errors
/// Whatever cannot be seen: then nobody may assume that nothing is there.
pub(super) async fn survey(handle: &Handle, pods: &BTreeSet<u32>, ours: &BTreeSet<u32>) -> io::Result<Survey> {
    let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await.map_err(io::Error::other)?;
    let special = special_routes(handle).await?;
    let mut devices = BTreeMap::new();
    for link in links.into_iter().filter(|link| pods.contains(&link.header.index)) {
        let mut device = described(&link);
        device.strangers = has_strangers(handle, link.header.index, &device.name, ours).await?;
        device.special = special.contains(&link.header.index);
        devices.insert(link.header.index, device);
    }
    Ok(Survey {
        chains: again(base_chains)?,
        legacy: ["ip_tables_names", "ip6_tables_names"].into_iter().flat_map(lines).collect(),
        ipvs: lines("ip_vs").iter().any(|line| !IPVS_TITLES.iter().any(|title| line.starts_with(title))),
        ipsec: has_policies()?,
        rule: splitting_rule(handle).await?,
        pods: devices,
    })
}

/// Somebody else may change the chains while they are listed.
fn again<T>(look: impl Fn() -> io::Result<T>) -> io::Result<T> {
    (0..3).find_map(|_| look().ok()).map_or_else(look, Ok)
}

/// How the lines of `/proc/net/ip_vs` begin that name no service.
const IPVS_TITLES: [&str; 3] = ["IP Virtual Server", "Prot ", "  ->"];

/// Of a file of this network namespace; none where the kernel lacks the feature.
fn lines(name: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn described(link: &LinkMessage) -> Device {
    let mut device = Device::default();
    let (mut veth, mut elsewhere) = (false, false);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Qdisc(name) => device.queue.clone_from(name),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::LinkInfo(infos) => {
                veth = infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Veth)));
            }
            _ => {}
        }
    }
    device.leads_elsewhere = veth && elsewhere;
    device
}

/// Programs by TCX, or filters of clsact, beside ours.
async fn has_strangers(handle: &Handle, index: u32, name: &str, ours: &BTreeSet<u32>) -> io::Result<bool> {
    // A kernel without TCX has nobody there.
    let tcx = tc::has_tcx();
    for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
        // Also what cannot be read, such as a program that goes while it is looked at.
        let are_ours =
            |(_, programs): (u64, Vec<ProgramInfo>)| programs.iter().all(|program| ours.contains(&program.id()));
        if tcx && !SchedClassifier::query_tcx(name, direction).is_ok_and(are_ours) {
            return Ok(true);
        }
    }
    let Ok(index) = i32::try_from(index) else { return Ok(true) };
    let mut filters = handle.traffic_filter(index);
    for request in [filters.get().ingress(), filters.get().egress()] {
        let found: Vec<TcMessage> = request.execute().try_collect().await.map_err(io::Error::other)?;
        if !found.iter().all(|filter| tc::is_ours(filter.header.info, filter.header.handle.into())) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Devices with a route that says what fits, or that is one way of several.
async fn special_routes(handle: &Handle) -> io::Result<BTreeSet<u32>> {
    let mut devices = BTreeSet::new();
    for message in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
        let mut routes = handle.route().get(message).execute();
        while let Some(route) = routes.try_next().await.map_err(io::Error::other)? {
            let narrow = route.attributes.iter().any(|attribute| {
                matches!(attribute, RouteAttribute::Metrics(metrics)
                    if metrics.iter().any(|metric| matches!(metric, RouteMetric::Mtu(_))))
            });
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Oif(index) if narrow => drop(devices.insert(*index)),
                    RouteAttribute::MultiPath(hops) => devices.extend(hops.iter().map(|hop| hop.interface_index)),
                    _ => {}
                }
            }
        }
    }
    Ok(devices)
}

/// A rule that tells packets of the same addresses apart.
async fn splitting_rule(handle: &Handle) -> io::Result<Option<String>> {
    for version in [IpVersion::V4, IpVersion::V6] {
        let rules: Vec<RuleMessage> =
            handle.rule().get(version).execute().try_collect().await.map_err(io::Error::other)?;
        if let Some(rule) = rules.iter().find(|rule| splits(rule)) {
            let priority = rule.attributes.iter().find_map(|attribute| match attribute {
                RuleAttribute::Priority(priority) => Some(*priority),
                _ => None,
            });
            return Ok(Some(format!(
                "the routing rule of priority {} asks for ports, protocols or the type of service",
                priority.unwrap_or_default()
            )));
        }
    }
    Ok(None)
}

fn splits(rule: &RuleMessage) -> bool {
    rule.header.tos != 0
        || rule.attributes.iter().any(|attribute| {
            matches!(
                attribute,
                RuleAttribute::IpProtocol(_)
                    | RuleAttribute::SourcePortRange(_)
                    | RuleAttribute::DestinationPortRange(_)
                    | RuleAttribute::Other(_)
            )
        })
}
