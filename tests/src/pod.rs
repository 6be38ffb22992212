//! A pod as the AWS VPC CNI wires it: a veth pair whose host side is `eniXXXX`, an address of its own on `eth0`, and
//! a default route over a link-local gateway that answers to the host side's MAC. Its processes are where a kubelet has
//! them: in a container's cgroup below the pod's, whose name has the pod's UID.

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
    pub uid: String,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    /// The veth's name on the node.
    pub device: String,
    /// MAC of the pod's `eth0`.
    pub mac: [u8; 6],
    /// MAC of the node's side, which every packet of the pod is sent to.
    pub host_mac: [u8; 6],
    // Order of the fields: processes end before their namespace is taken away.
    container: Cgroup,
    pub cgroup: Cgroup,
    pub netns: Netns,
}

impl Pod {
    /// Wires a pod to the node whose namespace and whose pods' cgroup are given.
    ///
    /// # Errors
    /// What iproute2 or the kernel says.
    pub(crate) fn create(name: &str, v4: Ipv4Addr, node: &Netns, pods: &Cgroup) -> Result<Self> {
        let v6 = twin(v4);
        let netns = Netns::create(name)?;
        let [a, b, c, d] = v4.octets();
        let uid = uid(v4);
        let cgroup = pods.child(&format!("pod{uid}"))?;
        let container = cgroup.child(name)?;
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
        Ok(Self { name: name.to_owned(), uid, v4, v6, device, mac, host_mac, container, cgroup, netns })
    }

    /// The pod's address in one family.
    #[must_use]
    pub fn address(&self, v6: bool) -> IpAddr {
        if v6 { self.v6.into() } else { self.v4.into() }
    }

    /// Where the pod's processes live.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { netns: self.netns.handle(), cgroup: self.container.path.clone() }
    }

    /// A process of the pod.
    ///
    /// # Errors
    /// As [`Place::command`].
    pub fn command(&self, program: &Path) -> Result<Command> {
        self.place().command(program)
    }
}

/// The UID of the pod that has, or will have, this address.
#[must_use]
pub fn uid(v4: Ipv4Addr) -> String {
    format!("6d696c6c-7261-4365-8000-0000{:08x}", v4.to_bits())
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
