//! A pod as the AWS VPC CNI wires it: a veth pair whose host side is `eniXXXX`, an address of its own on `eth0`, and
//! a default route over a link-local gateway that answers to the host side's MAC.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::Command,
};

use anyhow::Result;

use crate::{
    address::twin,
    netns::Netns,
    place::{Cgroup, Place},
};

/// Dropping it kills its processes and takes its veth away.
#[derive(Debug)]
pub struct Pod {
    pub name: String,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    /// The veth's name on the node.
    pub device: String,
    /// MAC of the pod's `eth0`.
    pub mac: [u8; 6],
    /// MAC of the node's side, which every packet of the pod is sent to.
    pub host_mac: [u8; 6],
    // Order of the fields: processes end before their namespace is taken away.
    cgroup: Cgroup,
    pub netns: Netns,
}

impl Pod {
    /// Wires a pod to the node whose namespace and cgroup are given.
    ///
    /// # Errors
    /// What iproute2 or the kernel says.
    pub(crate) fn create(name: &str, v4: Ipv4Addr, node: &Netns, node_cgroup: &Cgroup) -> Result<Self> {
        let v6 = twin(v4);
        let netns = Netns::create(name)?;
        let cgroup = node_cgroup.child(name)?;
        let [a, b, c, d] = v4.octets();
        let device = format!("eni{a:02x}{b:02x}{c:02x}{d:02x}");
        let (mac, host_mac) = ([0x02, 0x50, a, b, c, d], [0x02, 0x48, a, b, c, d]);
        let (m, h) = (mac_text(mac), mac_text(host_mac));
        node.ip(&[
            format!("link add {device} address {h} type veth peer name eth0 address {m} netns {}", netns.name),
            format!("link set {device} up"),
        ])?;
        netns.ip(&[
            "link set eth0 up".to_owned(),
            format!("address add {v4}/32 dev eth0"),
            format!("address add {v6}/128 dev eth0 nodad"),
            "route add 169.254.1.1 dev eth0 scope link".to_owned(),
            "route add default via 169.254.1.1 dev eth0".to_owned(),
            "route add fe80::1 dev eth0".to_owned(),
            "route add default via fe80::1 dev eth0".to_owned(),
            format!("neighbour add 169.254.1.1 lladdr {h} dev eth0 nud permanent"),
            format!("neighbour add fe80::1 lladdr {h} dev eth0 nud permanent"),
        ])?;
        netns.wait_for_address(v6)?;
        node.ip(&[format!("route add {v4}/32 dev {device} scope link"), format!("route add {v6}/128 dev {device}")])?;
        Ok(Self { name: name.to_owned(), v4, v6, device, mac, host_mac, cgroup, netns })
    }

    /// The pod's address in one family.
    #[must_use]
    pub fn address(&self, v6: bool) -> IpAddr {
        if v6 { self.v6.into() } else { self.v4.into() }
    }

    /// Where the pod's processes live.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { netns: self.netns.handle(), cgroup: self.cgroup.path.clone() }
    }

    /// A process of the pod.
    ///
    /// # Errors
    /// As [`Place::command`].
    pub fn command(&self, program: &Path) -> Result<Command> {
        self.place().command(program)
    }
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
