//! Two nodes with a pod on each, an agent on the first, and a Service with a node port whose backends a test chooses.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use millrace_common::verdict::Verdict;
use millrace_tests::{
    address::{in_family, twin},
    agent::Agent,
    client::{self, Running},
    manifests::{Endpoint, LoadBalancer, Manifests, Port, Service},
    netns::Netns,
    network::{Network, NodeSpec},
    place::{self, Place},
    wire::Wire,
};

pub(crate) const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 5);
pub(crate) const N1: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const NODE_PORT: u16 = 30080;
/// That of n1's uplink, once [`World::uplink`] was called.
pub(crate) const UPLINK_MAC: [u8; 6] = [0x02, 0x55, 0, 0, 0, 1];
/// For what comes at once; emulated machines run this too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Who may stand behind the node port of n1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// A pod of n1.
    Here,
    /// A pod of n2.
    There,
    /// A process of n1 itself, on the host's network.
    Host,
    /// A process of n2 itself.
    OtherHost,
}

impl Backend {
    pub(crate) const ALL: [Self; 4] = [Self::Here, Self::There, Self::Host, Self::OtherHost];

    /// Each, and whether the external policy is Local: then only one on the node that is called can serve.
    pub(crate) fn under_every_policy() -> impl Iterator<Item = (Self, bool)> {
        Self::ALL.into_iter().map(|backend| (backend, false)).chain([(Self::Here, true), (Self::Host, true)])
    }

    pub(crate) const fn node(self) -> &'static str {
        match self {
            Self::Here | Self::Host => "n1",
            Self::There | Self::OtherHost => "n2",
        }
    }

    pub(crate) const fn v4(self) -> Ipv4Addr {
        match self {
            Self::Here => Ipv4Addr::new(192, 168, 1, 11),
            Self::There => Ipv4Addr::new(192, 168, 2, 21),
            Self::Host => N1,
            Self::OtherHost => Ipv4Addr::new(10, 0, 0, 2),
        }
    }
}

/// What the packets of a client outside meet first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Tc,
    XdpGeneric,
    XdpNative,
}

impl Entry {
    pub(crate) const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Tc => &[],
            Self::XdpGeneric => &["--xdp", "generic"],
            Self::XdpNative => &["--xdp", "native"],
        }
    }
}

/// One for each entry, one after the other.
pub(crate) fn worlds() -> impl Iterator<Item = World> {
    worlds_with(&[])
}

/// As [`worlds`], whose agents are given more arguments.
pub(crate) fn worlds_with(arguments: &'static [&'static str]) -> impl Iterator<Item = World> {
    [Entry::Tc, Entry::XdpGeneric, Entry::XdpNative].into_iter().map(move |entry| {
        println!("{entry:?}");
        World::create(entry, arguments)
    })
}

pub(crate) struct World {
    pub(crate) entry: Entry,
    arguments: &'static [&'static str],
    // Order of the fields: the agent ends before its network does.
    pub(crate) agent: Option<Agent>,
    pub(crate) manifests: Manifests,
    pub(crate) network: Network,
}

impl World {
    fn create(entry: Entry, arguments: &'static [&'static str]) -> Self {
        let spec = |name, number| NodeSpec { name, zone: "a", number };
        let mut network = Network::create(&[spec("n1", 1), spec("n2", 2)]).unwrap();
        for (name, backend) in [("here", Backend::Here), ("there", Backend::There)] {
            network.node_mut(backend.node()).unwrap().add_pod(name, backend.v4()).unwrap();
        }
        let routed = [CLUSTER_IP, VIP].map(|ip| [false, true].map(|v6| (in_family(ip, v6), in_family(N1, v6))));
        let routes: Vec<_> = routed.as_flattened().iter().map(|(ip, n1)| format!("route add {ip} via {n1}")).collect();
        network.router.ip(&routes).unwrap();
        let manifests = Manifests::create().unwrap();
        if entry != Entry::Tc {
            network.lay_cables().unwrap();
        }
        let mut world = Self { entry, arguments, agent: None, manifests, network };
        world.start();
        world
    }

    /// Starts the agent; what the manifests say is in force when this returns.
    pub(crate) fn start(&mut self) {
        self.start_with(&[]);
    }

    /// As [`World::start`], with these arguments, too.
    pub(crate) fn start_with(&mut self, arguments: &[&str]) {
        let n1 = self.network.node("n1").unwrap();
        let arguments = [self.entry.arguments(), self.arguments, arguments].concat();
        self.agent = Some(Agent::start(n1, &self.manifests, &arguments).unwrap());
    }

    /// Where XDP was to serve what it can, it did.
    pub(crate) fn assert_served_as_entered(&self) {
        let served = self.network.node("n1").unwrap().count(Verdict::XdpServed).unwrap();
        assert_eq!(served > 0, self.entry != Entry::Tc, "{:?}: XDP has served {served} packets", self.entry);
    }

    /// Writes the Service; in force when this returns.
    pub(crate) fn serve(&mut self, service: &Service) {
        self.manifests.apply("service.yaml", &service.objects()).unwrap();
        self.settle();
    }

    /// What the manifests say is in force when this returns.
    pub(crate) fn settle(&mut self) {
        self.agent.as_mut().unwrap().settle(&self.manifests).unwrap();
    }

    /// Where the backend's sockets are.
    pub(crate) fn netns(&self, backend: Backend) -> &Netns {
        let node = self.network.node(backend.node()).unwrap();
        match backend {
            Backend::Here => &node.pod("here").unwrap().netns,
            Backend::There => &node.pod("there").unwrap().netns,
            Backend::Host | Backend::OtherHost => &node.netns,
        }
    }

    /// A process outside is in no node's cgroup.
    pub(crate) fn outside(&self) -> Place {
        Place { netns: self.network.outside.handle(), cgroup: place::root().unwrap() }
    }

    /// What comes to n1 by its uplink, from whomever: for frames to [`UPLINK_MAC`].
    pub(crate) fn uplink(&self) -> Wire {
        self.network.node("n1").unwrap().netns.ip(&["link set uplink address 02:55:00:00:00:01"]).unwrap();
        Wire::open(&self.network.router, "n1").unwrap()
    }

    /// A client's UDP socket outside, connected to the node port.
    pub(crate) fn client(&self, v6: bool) -> UdpSocket {
        let socket = udp(&self.network.outside, SocketAddr::new(any(v6), 0));
        self.network.outside.run(|| socket.connect(node_port(v6))).unwrap().unwrap();
        socket
    }
}

pub(crate) fn any(v6: bool) -> IpAddr {
    if v6 { "::" } else { "0.0.0.0" }.parse().unwrap()
}

pub(crate) fn node_port(v6: bool) -> SocketAddr {
    SocketAddr::new(in_family(N1, v6), NODE_PORT)
}

pub(crate) fn udp(netns: &Netns, at: SocketAddr) -> UdpSocket {
    let socket = bind(netns, || UdpSocket::bind(at));
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub(crate) fn name(backend: Backend) -> String {
    format!("{backend:?}").to_lowercase()
}

pub(crate) fn at(ip: Ipv4Addr, port: u16, v6: bool) -> SocketAddr {
    SocketAddr::new(in_family(ip, v6), port)
}

/// Servers by the backends' names, that go on answering whether they are endpoints or not.
pub(crate) fn servers(world: &World, backends: &[Backend], port: u16) -> Vec<Running> {
    let place = |backend: Backend| {
        let node = world.network.node(backend.node()).unwrap();
        match backend {
            Backend::Here | Backend::There => node.pod(&name(backend)).unwrap().place(),
            Backend::Host | Backend::OtherHost => node.place(),
        }
    };
    backends.iter().map(|backend| client::serve(&place(*backend), &name(*backend), port).unwrap()).collect()
}

/// A socket of the namespace. The one that had the port before may live for a moment, in a child that another test of
/// this process is about to turn into something else.
pub(crate) fn bind<T: Send>(netns: &Netns, bind: impl Fn() -> io::Result<T> + Sync) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match netns.run(&bind).unwrap() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result.unwrap(),
        }
    }
}

/// A dual-stack load balancer over TCP and UDP: its node port, its VIP and its ClusterIP lead to `target` of `backends`.
pub(crate) fn service(backends: &[Backend], target: u16) -> Service {
    let port = |protocol: &str| Port {
        name: protocol.to_lowercase(),
        protocol: protocol.to_owned(),
        port: 80,
        target,
        node_port: NODE_PORT,
    };
    let endpoint = |backend: &Backend| {
        let node = backend.node();
        [IpAddr::from(backend.v4()), twin(backend.v4()).into()].map(|address| Endpoint {
            address,
            node: node.to_owned(),
            terminating: false,
        })
    };
    Service {
        name: "outside".into(),
        cluster_ips: [false, true].map(|v6| in_family(CLUSTER_IP, v6)).into(),
        ports: vec![port("TCP"), port("UDP")],
        endpoints: backends.iter().flat_map(endpoint).collect(),
        load_balancer: Some(LoadBalancer {
            vips: [false, true].map(|v6| in_family(VIP, v6)).into(),
            ..LoadBalancer::default()
        }),
        ..Service::default()
    }
}
