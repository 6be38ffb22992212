//! A node's devices and routes, for the kernel's answers to the programs, and programs with their maps for each number
//! of services. No packet is sent anywhere.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use aya::{
    maps::{Map, MapData},
    programs::{SchedClassifier, Xdp},
};
use millrace_agent::{
    datapath::{Constants, Limits, Loaded, OwnAddressTables, grace, load, verdicts},
    lb::{NodeInfo, OwnAddresses},
};
use millrace_common::{maps, verdict::Verdict};
use millrace_tests::{
    address::{in_family, twin},
    interrupt,
    network::{Network, NodeSpec},
    node::Node,
    repeat::Hook,
};
use serde::{Deserialize, Serialize};

use super::services::{self, ENDPOINT_RANGES};
use crate::agent::Agent;

const NODE: (&str, Ipv4Addr) = ("n1", Ipv4Addr::new(10, 0, 0, 1));
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const POD: (&str, Ipv4Addr) = ("p1", Ipv4Addr::new(192, 168, 1, 11));

/// Where the backends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Behind the uplink.
    Elsewhere,
    /// Behind a pod's veth on this node.
    Here,
}

pub(super) struct Stage {
    network: Network,
    pub uplink: u32,
    pub veth: u32,
}

impl Stage {
    /// A node that knows its router and its pod.
    pub(super) fn create() -> Result<Self> {
        let mut network = Network::create(&[NodeSpec { name: NODE.0, zone: "a", number: 1 }])?;
        let node = network.node_mut(NODE.0)?;
        let pod = node.add_pod(POD.0, POD.1)?;
        let (veth, mac) = (pod.device.clone(), mac(pod.mac));
        let known = |address: IpAddr, mac: &str, device: &str| {
            format!("neighbour replace {address} lladdr {mac} dev {device} nud permanent")
        };
        node.netns.ip(&[
            // The one that the harness's packets are sent to.
            "link set uplink address 02:00:00:00:00:02".to_owned(),
            known(ROUTER.into(), "02:00:00:00:fe:01", "uplink"),
            known(twin(ROUTER).into(), "02:00:00:00:fe:01", "uplink"),
            known(POD.1.into(), &mac, &veth),
            known(twin(POD.1).into(), &mac, &veth),
        ])?;
        let index = |name: &str| node.netns.run(|| nix::net::if_::if_nametoindex(name));
        let (uplink, veth) = (index("uplink")??, index(&veth)??);
        Ok(Self { network, uplink, veth })
    }

    fn node(&self) -> Result<&Node> {
        self.network.node(NODE.0)
    }

    /// In the node's network namespace.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.node()?.netns.run(work)
    }

    /// From now on the routes lead there.
    pub(super) fn backends_are(&self, place: Place) -> Result<()> {
        let node = self.node()?;
        let pod = node.pod(POD.0)?;
        let routes = [(ENDPOINT_RANGES[0], ROUTER, false), (ENDPOINT_RANGES[1], ROUTER, true)];
        let commands = routes.map(|(range, router, v6)| match place {
            Place::Elsewhere => format!("route replace {range} via {} dev uplink", in_family(router, v6)),
            Place::Here => format!("route replace {range} via {} dev {} onlink", in_family(pod.v4, v6), pod.device),
        });
        node.netns.ip(&commands)?;
        // XDP remembers the ways of before for the rest of a second.
        thread::sleep(Duration::from_secs(2));
        Ok(())
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// The node's address in one family.
pub(super) fn address(v6: bool) -> IpAddr {
    in_family(NODE.1, v6)
}

/// Programs, and maps with so many services in them.
pub(super) struct Programs {
    agent: Agent,
    /// All but the first.
    loads: Vec<Loaded>,
    pub services: u32,
}

impl Programs {
    /// The programs are loaded `times` times, over the same maps. Their tables hold two entries for each of `flows`.
    pub(super) fn load(services: u32, flows: u32, times: usize) -> Result<Self> {
        let limits = Limits {
            services: maps::SERVICES.max(services * 5),
            frontends: maps::FRONTENDS.max(services * 5),
            backends: maps::BACKENDS.max(services * 8),
            slots: maps::SLOTS.max(services * 4),
            flows: maps::FLOWS.max(flows * 2),
            ..Limits::default()
        };
        let constants = Constants::default();
        let (v4, v6) = (Some(NODE.1.into()), Some(twin(NODE.1).into()));
        let own = OwnAddresses { v4, v6, all: v4.into_iter().chain(v6).collect() };
        let node = NodeInfo { name: NODE.0.into(), addresses: own.all.clone(), ..NodeInfo::default() };
        let mut agent = Agent::start(&format!("packets-{services}"), node, &limits, &constants)?;
        OwnAddressTables::open(&agent.pins, grace::start()?)?.apply(&own)?;
        let mut loads = Vec::new();
        for _ in 1..times {
            loads.push(load(&agent.pins, &limits, &constants)?);
        }
        for loaded in loads.iter_mut().chain([&mut agent.loaded]) {
            let program = loaded.ebpf.program_mut("mr_xdp").context("there is no mr_xdp in the object")?;
            <&mut Xdp>::try_from(program)?.load().context("cannot load mr_xdp")?;
        }
        for i in 0..services {
            if i % 1024 == 0 {
                interrupt::check()?;
            }
            agent.take_service(services::service(services, i).to_string().as_bytes())?;
            for slice in services::slices(i) {
                agent.take_slice(slice.to_string().as_bytes())?;
            }
        }
        agent.synced()?;
        Ok(Self { agent, loads, services })
    }

    pub(super) fn tc(&self, name: &str) -> Result<&SchedClassifier> {
        let program = self.agent.loaded.ebpf.program(name).with_context(|| format!("there is no {name}"))?;
        Ok(program.try_into()?)
    }

    /// A map of theirs.
    pub(super) fn map(&self, name: &str) -> Result<Map> {
        Ok(Map::from_map_data(MapData::from_pin(self.agent.pins.map(name))?)?)
    }

    /// A map of theirs, for programs of others.
    pub(super) fn descriptor(&self, map: &str) -> Result<OwnedFd> {
        Ok(MapData::from_pin(self.agent.pins.map(map))?.fd().as_fd().try_clone_to_owned()?)
    }

    /// A program of either kind, as often as it was loaded.
    pub(super) fn descriptors(&self, hook: Hook, name: &str) -> Result<Vec<BorrowedFd<'_>>> {
        let loads = [&self.agent.loaded].into_iter().chain(&self.loads);
        loads.map(|loaded| descriptor(loaded, hook, name)).collect()
    }

    /// How often each thing has happened.
    pub(super) fn verdicts(&self) -> Result<Vec<(Verdict, u64)>> {
        Ok(verdicts(&self.agent.pins)?)
    }
}

fn descriptor<'a>(loaded: &'a Loaded, hook: Hook, name: &str) -> Result<BorrowedFd<'a>> {
    let program = loaded.ebpf.program(name).with_context(|| format!("there is no {name}"))?;
    Ok(match hook {
        Hook::Tc => <&SchedClassifier>::try_from(program)?.fd()?.as_fd(),
        Hook::Xdp => <&Xdp>::try_from(program)?.fd()?.as_fd(),
    })
}
