//! What kube-proxy's IPVS mode leaves besides rules: a dummy device with all service addresses, virtual servers on them,
//! and sets. Pure.

use std::{collections::BTreeSet, net::IpAddr};

use serde::Deserialize;

use super::{Error, Kind, Step};

/// `defaultDummyDevice` in pkg/proxy/ipvs/proxier.go: no option names another.
pub const KUBE_IPVS0: &str = "kube-ipvs0";

/// The sets of pkg/proxy/ipvs/ipset.go, without `KUBE-` or, for IPv6, `KUBE-6-`.
const SETS: [&str; 17] = [
    "LOOP-BACK",
    "CLUSTER-IP",
    "EXTERNAL-IP",
    "EXTERNAL-IP-LOCAL",
    "LOAD-BALANCER",
    "LOAD-BALANCER-FW",
    "LOAD-BALANCER-LOCAL",
    "LOAD-BALANCER-SOURCE-IP",
    "LOAD-BALANCER-SOURCE-CIDR",
    "NODE-PORT-TCP",
    "NODE-PORT-LOCAL-TCP",
    "NODE-PORT-UDP",
    "NODE-PORT-LOCAL-UDP",
    "NODE-PORT-SCTP-HASH",
    "NODE-PORT-LOCAL-SCTP-HASH",
    "HEALTH-CHECK-NODE-PORT",
    "IPVS-IPS",
];

/// One device of `ip -j address show`.
#[derive(Deserialize)]
struct Device {
    ifname: String,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    local: Option<IpAddr>,
}

/// The addresses of kube-proxy's device; `None`: there is no such device.
pub(super) fn device_addresses(listed: &str) -> Result<Option<BTreeSet<IpAddr>>, Error> {
    if listed.trim().is_empty() {
        return Ok(None);
    }
    let devices: Vec<Device> =
        serde_json::from_str(listed).map_err(|source| Error::Unreadable { program: "ip", source })?;
    let device = devices.into_iter().find(|device| device.ifname == KUBE_IPVS0);
    Ok(device.map(|device| device.addr_info.into_iter().filter_map(|address| address.local).collect()))
}

pub(super) fn remove_device() -> Step {
    step("device kube-ipvs0", "ip", &["link", "delete", KUBE_IPVS0])
}

/// Virtual servers of `ipvsadm -S -n` (`-A -t ADDRESS:PORT -s rr`) whose address is one of `addresses`.
pub(super) fn servers(saved: &str, addresses: &BTreeSet<IpAddr>) -> Vec<Step> {
    let ours = saved.lines().filter_map(|line| {
        let ["-A", protocol @ ("-t" | "-u" | "--sctp-service"), server, ..] = line.split(' ').collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let (address, _) = server.rsplit_once(':')?;
        let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
        addresses.contains(&address).then_some((protocol, server))
    });
    ours.map(|(protocol, server)| {
        step(&format!("virtual server {protocol} {server}"), "ipvsadm", &["-D", protocol, server])
    })
    .collect()
}

/// Of the names that `ipset list -n` prints, those of kube-proxy.
pub(super) fn sets(listed: &str) -> Vec<Step> {
    let is_ours = |name: &&str| {
        let rest = name.strip_prefix("KUBE-").map(|rest| rest.strip_prefix("6-").unwrap_or(rest));
        rest.is_some_and(|rest| SETS.contains(&rest))
    };
    listed.lines().filter(is_ours).map(|name| step(&format!("set {name}"), "ipset", &["destroy", name])).collect()
}

fn step(object: &str, program: &str, arguments: &[&str]) -> Step {
    Step {
        kind: Kind::Remove,
        objects: vec![format!("IPVS: {object}")],
        family: None,
        program: program.into(),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        input: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{BTreeSet, device_addresses, servers, sets};

    #[test]
    fn only_virtual_servers_on_the_devices_addresses_are_removed() {
        let listed = r#"[{"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8}]},
            {"ifname":"kube-ipvs0","addr_info":[{"local":"10.96.0.1","prefixlen":32},{"local":"fd00::1"}]}]"#;
        let addresses = device_addresses(listed).unwrap().unwrap();
        let saved = "-A -t 10.96.0.1:443 -s rr\n-a -t 10.96.0.1:443 -r 10.0.0.2:6443 -m -w 1\n\
                     -A -u [fd00::1]:53 -s rr\n-A -t 192.0.2.7:80 -s wlc\n-A -f 7 -s rr\n";
        let calls: Vec<_> = servers(saved, &addresses).into_iter().map(|step| step.arguments.join(" ")).collect();
        assert_eq!(calls, ["-D -t 10.96.0.1:443", "-D -u [fd00::1]:53"]);
        assert_eq!(device_addresses("[]").unwrap(), None);
        assert_eq!(servers(saved, &BTreeSet::new()), []);
    }

    #[test]
    fn only_kube_proxys_sets_are_removed() {
        let listed = "KUBE-CLUSTER-IP\nKUBE-6-NODE-PORT-TCP\nKUBE-DST-VBH27M7NWLDOZIE\nmine\n";
        let calls: Vec<_> = sets(listed).into_iter().map(|step| step.arguments.join(" ")).collect();
        assert_eq!(calls, ["destroy KUBE-CLUSTER-IP", "destroy KUBE-6-NODE-PORT-TCP"]);
    }
}
