//! Listens to rtnetlink: devices, addresses and routes out of the node as they come and go, and that anything has changed which
//! the ways of packets follow from, without polling.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures::{FutureExt, StreamExt, TryStreamExt};
use rtnetlink::{
    Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection,
    packet_core::NetlinkPayload,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{LinkAttribute, LinkLayerType, LinkMessage},
        route::{RouteAttribute, RouteMessage, RouteType},
    },
};
use tokio::sync::{mpsc, watch as latest};
use tracing::warn;

use super::{
    RouteChanges,
    devices::{DeviceEvent, Devices, Heard, Link, Selection},
};

/// Messages that are taken in together, at most.
const BURST: usize = 4096;

/// Says what is there, then what changes, until nobody listens. `own`: as which addresses the cluster knows the node.
///
/// # Errors
/// When the namespace cannot be listened to or read, or `changes` cannot be counted.
pub async fn listen(
    selection: Selection,
    changes: RouteChanges,
    mut own: latest::Receiver<BTreeSet<IpAddr>>,
    events: mpsc::Sender<DeviceEvent>,
) -> io::Result<()> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Rule,
        MulticastGroup::Neigh,
        MulticastGroup::Tc,
    ];
    let (connection, handle, mut messages) = new_multicast_connection(&groups)?;
    let connection = tokio::spawn(connection);
    let mut devices = Devices::new(selection);
    devices.own(own.borrow_and_update().clone());
    // The subscription stands: what changes during the dump is in `messages`.
    let mut due = anew(&mut devices, &handle).await?;
    loop {
        for event in due.drain(..) {
            if events.send(event).await.is_err() {
                connection.abort();
                return Ok(());
            }
        }
        let message = tokio::select! {
            message = messages.next() => message,
            // Who tells the addresses ends with the agent.
            Ok(()) = own.changed() => {
                due = devices.own(own.borrow_and_update().clone());
                due.push(devices.outward());
                continue;
            }
        };
        let Some((message, _)) = message else {
            return Err(io::Error::other("the kernel closed the rtnetlink socket"));
        };
        let mut burst = vec![message.payload];
        // A device that goes with thousands of addresses says so of each.
        while burst.len() < BURST
            && let Some(Some((message, _))) = messages.next().now_or_never()
        {
            burst.push(message.payload);
        }
        // Whatever it is: to ask the kernel once too often costs little.
        changes.count()?;
        if burst.iter().any(|payload| matches!(payload, NetlinkPayload::Overrun(_))) {
            warn!("the kernel dropped rtnetlink events: reading all devices anew");
            due = anew(&mut devices, &handle).await?;
        } else {
            let outward = burst
                .iter()
                .any(|payload| matches!(payload, NetlinkPayload::InnerMessage(message) if moves_sources(message)));
            due = burst.into_iter().flat_map(|payload| take(&mut devices, payload)).collect();
            due.extend(outward.then(|| devices.outward()));
            due.extend(devices.settle());
        }
    }
}

/// All that is there. The addresses come last: they end what is said at the start.
async fn anew(devices: &mut Devices, handle: &Handle) -> io::Result<Vec<DeviceEvent>> {
    let mut events = devices.replace(dump(handle).await?);
    events.insert(0, devices.outward());
    Ok(events)
}

fn take(devices: &mut Devices, payload: NetlinkPayload<RouteNetlinkMessage>) -> Vec<DeviceEvent> {
    let NetlinkPayload::InnerMessage(message) = payload else { return Vec::new() };
    let filter = filters(&message).then_some(DeviceEvent::Filters);
    let mut events = heard(message).map_or_else(Vec::new, |heard| devices.hear(heard));
    events.extend(filter);
    events
}

async fn dump(handle: &Handle) -> io::Result<Vec<Heard>> {
    let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await.map_err(io::Error::other)?;
    let addresses: Vec<AddressMessage> =
        handle.address().get().execute().try_collect().await.map_err(io::Error::other)?;
    // A router's node has a million of them, over a few devices.
    let mut indices = BTreeSet::new();
    let families = [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
    for message in families {
        let mut found = handle.route().get(message).execute();
        while let Some(route) = found.try_next().await.map_err(io::Error::other)? {
            indices.extend(outward(route));
        }
    }
    let route_out = Heard::RouteOut { indices: indices.into_iter().collect() };
    let links = links.into_iter().map(RouteNetlinkMessage::NewLink);
    let addresses = addresses.into_iter().map(RouteNetlinkMessage::NewAddress);
    Ok(links.chain(addresses).filter_map(heard).chain([route_out]).collect())
}

fn heard(message: RouteNetlinkMessage) -> Option<Heard> {
    match message {
        // Bridges speak of their ports with messages of their own family: leaving a bridge is no vanishing.
        RouteNetlinkMessage::NewLink(link) if link.header.interface_family == AddressFamily::Unspec => {
            let index = link.header.index;
            let kind = match link.header.link_layer_type {
                LinkLayerType::Ether => Link::Framed,
                LinkLayerType::Loopback => Link::Loopback,
                _ => Link::Unframed,
            };
            link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(Heard::Device { index, name, link: kind }),
                _ => None,
            })
        }
        RouteNetlinkMessage::DelLink(link) if link.header.interface_family == AddressFamily::Unspec => {
            Some(Heard::DeviceGone { index: link.header.index })
        }
        RouteNetlinkMessage::NewAddress(message) => {
            let index = message.header.index;
            own_address(message).map(|address| Heard::Address { index, address })
        }
        RouteNetlinkMessage::DelAddress(message) => {
            let index = message.header.index;
            own_address(message).map(|address| Heard::AddressGone { index, address })
        }
        RouteNetlinkMessage::NewRoute(route) => {
            let indices = outward(route);
            (!indices.is_empty()).then_some(Heard::RouteOut { indices })
        }
        _ => None,
    }
}

/// True for what may delay, drop or redirect packets on a device from now on.
const fn filters(message: &RouteNetlinkMessage) -> bool {
    use RouteNetlinkMessage::{NewQueueDiscipline, NewTrafficChain, NewTrafficFilter};
    matches!(message, NewQueueDiscipline(_) | NewTrafficFilter(_) | NewTrafficChain(_))
}

/// True for what the kernel may choose another source address after. An address is mentioned again when it may be used
/// (IPv6), and a route that goes with its device is not mentioned (IPv4).
fn moves_sources(message: &RouteNetlinkMessage) -> bool {
    use RouteNetlinkMessage::{DelAddress, DelLink, DelRoute, NewAddress, NewLink, NewRoute};
    match message {
        NewAddress(_) | DelAddress(_) | NewLink(_) | DelLink(_) => true,
        NewRoute(route) | DelRoute(route) => leads_out(route),
        _ => false,
    }
}

/// A default route, or one by way of a router, of any table: a second interface of a VPC has its own, which rules on the
/// source lead to. Who is on the link itself may be a container of the node, behind a bridge.
fn leads_out(route: &RouteMessage) -> bool {
    let by_router = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::MultiPath(hops) => hops.iter().flat_map(|hop| &hop.attributes).any(is_router),
        attribute => is_router(attribute),
    };
    let is_default = route.header.destination_prefix_length == 0;
    route.header.kind == RouteType::Unicast && (is_default || route.attributes.iter().any(by_router))
}

const fn is_router(attribute: &RouteAttribute) -> bool {
    matches!(attribute, RouteAttribute::Gateway(_) | RouteAttribute::Via(_))
}

/// The devices of a route that leads out: one, or one for each of several next hops.
fn outward(route: RouteMessage) -> Vec<u32> {
    let mut indices = Vec::new();
    if !leads_out(&route) {
        return indices;
    }
    for attribute in route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => indices.push(index),
            RouteAttribute::MultiPath(hops) => indices.extend(hops.iter().map(|hop| hop.interface_index)),
            _ => {}
        }
    }
    indices
}

/// On a point-to-point device IFA_ADDRESS is the peer's and IFA_LOCAL the node's (linux/if_addr.h).
fn own_address(message: AddressMessage) -> Option<IpAddr> {
    let mut address = None;
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(local) => return Some(local),
            AddressAttribute::Address(found) => address = Some(found),
            _ => {}
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use rtnetlink::packet_route::route::{RouteAddress, RouteNextHop, RouteVia};

    use super::*;

    const PRIVATE: u8 = 200;
    const NONE: [u32; 0] = [];

    fn route(kind: RouteType, length: u8, attributes: &[RouteAttribute]) -> RouteMessage {
        let mut route = RouteMessage::default();
        (route.header.kind, route.header.destination_prefix_length) = (kind, length);
        (route.header.table, route.attributes) = (PRIVATE, attributes.to_vec());
        route
    }

    fn hops(gateway: Option<RouteAttribute>) -> RouteAttribute {
        let mut hop = RouteNextHop::default();
        hop.attributes.extend(gateway);
        let mut hops: Vec<_> = repeat_n(hop, 2).collect();
        (hops[0].interface_index, hops[1].interface_index) = (7, 8);
        RouteAttribute::MultiPath(hops)
    }

    #[test]
    fn default_routes_and_those_by_way_of_a_router_lead_out_in_whichever_table() {
        let over = RouteAttribute::Oif(7);
        let gateway = || RouteAttribute::Gateway(RouteAddress::Inet(Ipv4Addr::new(10, 0, 0, 254)));
        let via = RouteAttribute::Via(RouteVia::Inet6(Ipv6Addr::LOCALHOST));
        let unicast = |length, attributes: &[RouteAttribute]| outward(route(RouteType::Unicast, length, attributes));
        assert_eq!(unicast(0, std::slice::from_ref(&over)), [7]);
        assert_eq!(unicast(24, &[over.clone(), gateway()]), [7]);
        assert_eq!(unicast(24, &[over.clone(), via]), [7]);
        assert_eq!(unicast(24, &[hops(Some(gateway()))]), [7, 8]);
        assert_eq!(unicast(0, &[hops(None)]), [7, 8]);
        assert_eq!(unicast(24, &[hops(None)]), NONE);
        assert_eq!(unicast(24, std::slice::from_ref(&over)), NONE, "who is on the link");
        for kind in [RouteType::Local, RouteType::BlackHole, RouteType::Unreachable, RouteType::Multicast] {
            assert_eq!(outward(route(kind, 0, &[over.clone(), gateway()])), NONE, "{kind:?}");
        }
    }
}
