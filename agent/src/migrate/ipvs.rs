//! What kube-proxy's IPVS mode leaves besides rules: a dummy device with all service addresses, virtual servers on them
//! and (for node ports) on the node's own, and sets. Pure.
//!
//! A connection through IPVS is its virtual server's. Without the server its next packet ends it: by a reset under
//! kube-proxy's `expire_nodest_conn=1`, by silence under 0. Without the device its packets are not the node's to take any
//! more: silence. But a server whose endpoints have weight 0 gets no new connections and keeps the ones that it has. So a
//! server with connections stays, and the device with it, until a later look finds that they have ended. Not for UDP: a
//! datagram needs no earlier one to be served, and whoever proxies now has it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde::Deserialize;

use super::{Error, Kind, Plan, Step};

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

/// What the host's tools say of it.
pub(super) struct Seen<'a> {
    /// `ip -j address show`
    pub(super) addresses: &'a str,
    /// `ipset save`
    pub(super) sets: &'a str,
    /// `ipvsadm -L -n`; `None`: there are virtual servers, and nothing that could tell of them.
    pub(super) servers: Option<&'a str>,
}

/// What is to be removed: servers and device, and apart from them the sets, which the kernel gives up only after the rules
/// that look into them.
pub(super) struct Removal {
    pub(super) servers: Plan,
    pub(super) sets: Vec<Step>,
}

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

/// A virtual server as `ipvsadm` lists it.
struct Server<'a> {
    /// ipvsadm's option for its protocol.
    option: &'static str,
    /// Address and port.
    name: &'a str,
    address: IpAddr,
    port: &'a str,
    endpoints: Vec<Endpoint<'a>>,
}

struct Endpoint<'a> {
    name: &'a str,
    forward: &'a str,
    weight: &'a str,
    connections: u64,
}

pub(super) fn plan(seen: &Seen<'_>) -> Result<Removal, Error> {
    let devices: Vec<Device> = if seen.addresses.trim().is_empty() {
        Vec::new()
    } else {
        serde_json::from_str(seen.addresses).map_err(|source| Error::Unreadable { program: "ip", source })?
    };
    let of_device = |device: &Device| device.addr_info.iter().filter_map(|address| address.local).collect();
    let services: Option<BTreeSet<IpAddr>> = devices.iter().find(|device| device.ifname == KUBE_IPVS0).map(of_device);
    let assigned: BTreeSet<IpAddr> = devices.iter().flat_map(of_device).collect();
    let node_ports = node_ports(seen.sets);
    let mut plan = Plan::default();
    let Some(listed) = seen.servers else {
        let mut removal = Removal { servers: plan, sets: Vec::new() };
        if services.is_some() {
            removal.servers.notes.push(format!(
                "IPVS: {KUBE_IPVS0} stays, and so do the sets: virtual servers may have connections, and ipvsadm is not \
                 installed to ask them; install it and run this again"
            ));
        } else {
            removal.sets = sets(seen.sets);
        }
        return Ok(removal);
    };
    let is_kube_proxys = |server: &Server<'_>| {
        services.as_ref().is_some_and(|services| services.contains(&server.address))
            || assigned.contains(&server.address)
                && node_ports.get(server.option).is_some_and(|ports| ports.contains(server.port))
    };
    let (mut busy, mut connections) = (Vec::new(), 0);
    for server in servers(listed).iter().filter(|server| is_kube_proxys(server)) {
        let count = server.connections();
        if count == 0 || server.option == "-u" {
            plan.steps.push(server.removal());
        } else {
            plan.steps.extend(server.drain(count));
            connections += count;
            busy.push(format!("{} {}", server.option, server.name));
        }
    }
    if let Some(one) = busy.first() {
        plan.stays = true;
        plan.notes.push(format!(
            "IPVS: {} virtual servers have {connections} connections, which end if their server goes: these servers, \
             {KUBE_IPVS0} and the sets stay. Run this again once they have ended (two minutes after a client has closed \
             one, fifteen after its last packet); to end those of one: ipvsadm -D {one}",
            busy.len()
        ));
        return Ok(Removal { servers: plan, sets: Vec::new() });
    }
    if services.is_some() {
        plan.steps.push(step(Kind::Remove, &format!("device {KUBE_IPVS0}"), "ip", &["link", "delete", KUBE_IPVS0]));
    }
    Ok(Removal { servers: plan, sets: sets(seen.sets) })
}

/// Whether anything is listed in /proc/net/ip_vs.
pub(super) fn has_servers(proc: &str) -> bool {
    let is_title = |line: &str| ["IP Virtual Server", "Prot ", "  ->"].iter().any(|title| line.starts_with(title));
    proc.lines().any(|line| !is_title(line))
}

fn servers(listed: &str) -> Vec<Server<'_>> {
    let mut servers: Vec<Server<'_>> = Vec::new();
    // Endpoints of a server that is none of ours to read (a firewall mark) are not those of the one before.
    let mut known = false;
    for line in listed.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let ["->", name, forward, weight, active, inactive] = words[..] {
            let connections = [active, inactive].iter().filter_map(|count| count.parse::<u64>().ok()).sum();
            if let Some(server) = servers.last_mut().filter(|_| known) {
                server.endpoints.push(Endpoint { name, forward, weight, connections });
            }
            continue;
        }
        let server = server(&words);
        known = server.is_some();
        servers.extend(server);
    }
    servers
}

fn server<'a>(words: &[&'a str]) -> Option<Server<'a>> {
    let [protocol, name, ..] = *words else { return None };
    let option = match protocol {
        "TCP" => "-t",
        "UDP" => "-u",
        "SCTP" => "--sctp-service",
        _ => return None,
    };
    let (address, port) = name.rsplit_once(':')?;
    let address = address.trim_matches(['[', ']']).parse().ok()?;
    Some(Server { option, name, address, port, endpoints: Vec::new() })
}

impl Server<'_> {
    fn connections(&self) -> u64 {
        self.endpoints.iter().map(|endpoint| endpoint.connections).sum()
    }

    fn removal(&self) -> Step {
        let Self { option, name, .. } = self;
        step(Kind::Remove, &format!("virtual server {option} {name}"), "ipvsadm", &["-D", option, name])
    }

    /// Weight 0 for every endpoint; `None`: they have it.
    fn drain(&self, connections: u64) -> Option<Step> {
        let Self { option, name, .. } = self;
        // kube-proxy's are of no other kind, and to change one is to name its kind.
        let open = self.endpoints.iter().filter(|endpoint| endpoint.weight != "0" && endpoint.forward == "Masq");
        let lines = open.map(|endpoint| format!("-e {option} {name} -r {} -m -w 0\n", endpoint.name));
        let input: String = lines.collect();
        let object = format!("virtual server {option} {name}: no new connections, {connections} go on");
        let change = step(Kind::Drain, &object, "ipvsadm", &["-R"]);
        (!input.is_empty()).then_some(Step { input, ..change })
    }
}

/// ipset's limit on a name, to which kube-proxy cuts its longest.
const LONGEST_NAME: usize = 31;

/// Which of kube-proxy's sets has this name.
fn suffix(set: &str) -> Option<&'static str> {
    let is_named = |suffix: &&str| {
        ["KUBE-", "KUBE-6-"].iter().any(|prefix| format!("{prefix}{suffix}").chars().take(LONGEST_NAME).eq(set.chars()))
    };
    SETS.into_iter().find(is_named)
}

/// The node ports that kube-proxy has noted in its sets, by ipvsadm's option for their protocol.
fn node_ports(saved: &str) -> BTreeMap<&'static str, BTreeSet<&str>> {
    let mut ports: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for line in saved.lines() {
        let ["add", set, member, ..] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
        let option = match suffix(set) {
            Some("NODE-PORT-TCP" | "NODE-PORT-LOCAL-TCP") => "-t",
            Some("NODE-PORT-UDP" | "NODE-PORT-LOCAL-UDP") => "-u",
            // `10.0.0.1,sctp:30080`
            Some("NODE-PORT-SCTP-HASH" | "NODE-PORT-LOCAL-SCTP-HASH") => "--sctp-service",
            _ => continue,
        };
        ports.entry(option).or_default().insert(member.rsplit_once(':').map_or(member, |(_, port)| port));
    }
    ports
}

/// Of the sets that `ipset save` prints, those of kube-proxy.
fn sets(saved: &str) -> Vec<Step> {
    let names = saved.lines().filter_map(|line| line.strip_prefix("create ")?.split(' ').next());
    let ours = names.filter(|name| suffix(name).is_some());
    ours.map(|name| step(Kind::Remove, &format!("set {name}"), "ipset", &["destroy", name])).collect()
}

fn step(kind: Kind, object: &str, program: &str, arguments: &[&str]) -> Step {
    Step {
        kind,
        objects: vec![format!("IPVS: {object}")],
        family: None,
        program: program.into(),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        input: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: &str = r#"[{"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8}]},
        {"ifname":"eth0","addr_info":[{"local":"192.0.2.7"},{"local":"2001:db8::7"}]},
        {"ifname":"kube-ipvs0","addr_info":[{"local":"10.96.0.1","prefixlen":32},{"local":"fd00::1"}]}]"#;
    const SETS: &str = "create KUBE-CLUSTER-IP hash:ip,port family inet\nadd KUBE-CLUSTER-IP 10.96.0.1,tcp:443\n\
        create KUBE-6-NODE-PORT-TCP bitmap:port range 0-65535\nadd KUBE-6-NODE-PORT-TCP 30080\n\
        create KUBE-NODE-PORT-SCTP-HASH hash:ip,port\nadd KUBE-NODE-PORT-SCTP-HASH 192.0.2.7,sctp:30081\n\
        create KUBE-DST-VBH27M7NWLDOZIE hash:ip\ncreate KUBE-6-LOAD-BALANCER-SOURCE-CID hash:ip,port,net\ncreate mine bitmap:port range 0-65535\nadd mine 80\n";
    const TITLE: &str = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  \
        -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n";
    const SERVERS: &str = "TCP  10.96.0.1:443 rr persistent 10800\n  \
        -> 10.0.0.2:6443                Masq    1      0          0         \n\
        TCP  192.0.2.7:80 wlc\nTCP  192.0.2.7:30080 rr\nTCP  198.51.100.1:30080 rr\nUDP  192.0.2.7:30080 rr\n\
        UDP  [fd00::1]:53 rr\n  -> [fd00::2]:53                 Masq    1      0          2\n\
        SCTP 192.0.2.7:30081 rr\nFWM  7 rr\n  -> 10.0.0.9:80                  Masq    1      3          3\n";

    fn planned(addresses: &str, servers: Option<&str>) -> Removal {
        let servers = servers.map(|servers| format!("{TITLE}{servers}"));
        plan(&Seen { addresses, sets: SETS, servers: servers.as_deref() }).unwrap()
    }

    fn calls(steps: &[Step]) -> Vec<String> {
        steps.iter().map(|step| format!("{} {}", step.program, step.arguments.join(" "))).collect()
    }

    #[test]
    fn virtual_servers_on_the_devices_addresses_and_at_node_ports_are_removed_and_no_others() {
        let removal = planned(ADDRESSES, Some(SERVERS));
        assert_eq!(
            calls(&removal.servers.steps),
            [
                "ipvsadm -D -t 10.96.0.1:443",
                "ipvsadm -D -t 192.0.2.7:30080",
                "ipvsadm -D -u [fd00::1]:53",
                "ipvsadm -D --sctp-service 192.0.2.7:30081",
                "ip link delete kube-ipvs0"
            ]
        );
        let sets = [
            "KUBE-CLUSTER-IP",
            "KUBE-6-NODE-PORT-TCP",
            "KUBE-NODE-PORT-SCTP-HASH",
            // Cut to what ipset allows.
            "KUBE-6-LOAD-BALANCER-SOURCE-CID",
        ];
        assert_eq!(calls(&removal.sets), sets.map(|set| format!("ipset destroy {set}")));
        assert!(removal.servers.notes.is_empty() && !removal.servers.stays);
    }

    #[test]
    fn a_server_with_connections_keeps_them_and_its_device_and_gets_no_new_ones() {
        let busy = "TCP  [fd00::1]:80 rr\n  -> [fd00::2]:8080               Masq    1      2          1\n  \
                    -> [fd00::3]:8080               Masq    0      0          4\nTCP  10.96.0.1:443 rr\n";
        let removal = planned(ADDRESSES, Some(busy));
        assert_eq!(calls(&removal.servers.steps), ["ipvsadm -R", "ipvsadm -D -t 10.96.0.1:443"]);
        assert_eq!(removal.servers.steps[0].input, "-e -t [fd00::1]:80 -r [fd00::2]:8080 -m -w 0\n");
        let said: Vec<_> = removal.servers.steps[0].lines(false).collect();
        assert_eq!(said, ["would drain IPVS: virtual server -t [fd00::1]:80: no new connections, 7 go on"]);
        assert!(removal.sets.is_empty() && removal.servers.stays);
        let notes = removal.servers.notes.concat();
        assert!(
            notes.contains("1 virtual servers have 7 connections") && notes.contains("-D -t [fd00::1]:80"),
            "{notes}"
        );

        let drained = "TCP  [fd00::1]:80 rr\n  -> [fd00::2]:8080               Masq    0      2          1\n";
        let removal = planned(ADDRESSES, Some(drained));
        assert!(removal.servers.steps.is_empty() && removal.servers.stays, "what was done is not done again");
    }

    #[test]
    fn servers_that_cannot_be_asked_stay_with_their_device() {
        let removal = planned(ADDRESSES, None);
        assert!(removal.servers.steps.is_empty() && removal.sets.is_empty());
        assert!(removal.servers.notes[0].contains("install it"), "{:?}", removal.servers.notes);
    }

    #[test]
    fn without_kube_proxys_device_nothing_on_service_addresses_is_taken_for_its_own() {
        let removal = planned("[]", Some(SERVERS));
        assert!(removal.servers.steps.is_empty(), "{:?}", removal.servers.steps);
        assert_eq!(removal.sets.len(), 4);
    }

    #[test]
    fn the_kernels_own_list_has_servers_or_only_titles() {
        assert!(!has_servers(TITLE) && !has_servers(""));
        assert!(has_servers(&format!("{TITLE}TCP  0A600001:01BB rr\n")));
    }
}
