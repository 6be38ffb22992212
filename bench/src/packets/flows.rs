//! Flows through the services: those that are established before anything is measured, and the frames of each case.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use anyhow::{Result, ensure};
use millrace_tests::{
    address::in_family,
    packet::{Body, Flags, Packet, Seen},
    repeat::Series,
    test_run,
};

use super::{
    case::{Case, Choice, Step},
    services::{NODE_PORT, vip},
    stage::{Programs, Stage, address},
};
use crate::cluster::{PORT, TARGET_PORT};

/// Four times what the tables of new flows hold: when a frame comes again, its flow is forgotten.
const NEW_FLOWS: u32 = 1 << 15;
/// Of packets that no service has.
const STRANGERS: u32 = 1 << 10;

/// An established connection.
#[derive(Clone, Copy)]
pub(super) struct Flow {
    client: SocketAddr,
    frontend: SocketAddr,
    /// What the backend takes for the client.
    hidden: SocketAddr,
    backend: SocketAddr,
}

/// Of the range that benchmarks may use (RFC 2544).
fn client(number: u32, port: u16, v6: bool) -> SocketAddr {
    SocketAddr::new(in_family(Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number), v6), port)
}

/// What the client of a choice calls.
fn frontends(services: u32, choice: Choice, v6: bool) -> Vec<SocketAddr> {
    match choice {
        Choice::Hot => vec![SocketAddr::new(address(v6), NODE_PORT)],
        Choice::Random => {
            let mut all: Vec<_> = (0..services).map(|i| SocketAddr::new(in_family(vip(i), v6), PORT)).collect();
            // The same order in every run.
            fastrand::Rng::with_seed(u64::from(services)).shuffle(&mut all);
            all
        }
    }
}

/// One connection to each frontend of the choice, through the programs. The backends must be elsewhere.
pub(super) fn establish(stage: &Stage, programs: &Programs, choice: Choice, v6: bool) -> Result<Vec<Flow>> {
    let program = programs.tc("mr_from_uplink")?;
    let meets = |packet: &Packet| -> Result<Seen> {
        let out = test_run::run(program, &packet.frame(), Some(stage.uplink))?;
        ensure!(out.action == test_run::Action::Redirect, "the program did not send {packet:?}: {out:?}");
        out.seen()
    };
    // Hot and random connections are different ones.
    let port = if choice == Choice::Hot { 50_000 } else { 51_000 };
    let flow = |(number, frontend): (u32, SocketAddr)| {
        let client = client(number, port, v6);
        let seen = meets(&Packet::tcp(client, frontend, Flags::SYN))?;
        let back = meets(&Packet::tcp(seen.destination, seen.source, Flags::SYN_ACK))?;
        ensure!((back.source, back.destination) == (frontend, client), "the answer went to {back:?}");
        // Until the client takes up the answer, a flow is kept for a minute only.
        meets(&Packet::tcp(client, frontend, Flags::ACK))?;
        Ok(Flow { client, frontend, hidden: seen.source, backend: seen.destination })
    };
    (0..).zip(frontends(programs.services, choice, v6)).map(flow).collect()
}

/// The packets of a case, in the order in which they come, as frames.
pub(super) fn frames(case: Case, services: u32, choice: Choice, flows: &[Flow]) -> Vec<Vec<u8>> {
    let packets: Vec<Packet> = match case.step {
        Step::New => {
            let called = frontends(services, choice, case.v6);
            (0..NEW_FLOWS)
                .zip(called.iter().cycle())
                .map(|(number, frontend)| Packet::tcp(client(number, 20_000, case.v6), *frontend, Flags::SYN))
                .collect()
        }
        Step::Established => flows.iter().map(|flow| Packet::tcp(flow.client, flow.frontend, Flags::ACK)).collect(),
        Step::Answer => flows.iter().map(|flow| Packet::tcp(flow.backend, flow.hidden, Flags::ACK)).collect(),
        Step::Nobody => {
            let count = if choice == Choice::Hot { 1 } else { STRANGERS };
            (0..count)
                .map(|number| {
                    let there = Ipv4Addr::from(u32::from(Ipv4Addr::new(192, 168, 1, 0)) + number);
                    let stranger = SocketAddr::new(in_family(there, case.v6), TARGET_PORT);
                    Packet::tcp(client(number, 20_000, case.v6), stranger, Flags::ACK)
                })
                .collect()
        }
    };
    packets.into_iter().map(unmistakable).collect()
}

/// The frame of a packet. One checksum in 65,536 looks as if it were left to a device, and XDP leaves its packet to tc: such
/// a packet gets another sequence number.
fn unmistakable(mut packet: Packet) -> Vec<u8> {
    loop {
        let frame = packet.frame();
        if frame != packet.clone().partial().frame() {
            return frame;
        }
        if let Body::Tcp { sequence, .. } = &mut packet.body {
            *sequence += 1;
        }
    }
}

/// That the last packet of a series became what it should.
pub(super) fn check(case: Case, flows: &[Flow], frames: &HashSet<Vec<u8>>, series: &Series) -> Result<()> {
    ensure!(series.returned == case.returns(), "the program returned {}, not {}", series.returned, case.returns());
    if case.passes() {
        ensure!(frames.contains(&series.frame), "a packet that is to pass was changed");
        return Ok(());
    }
    let seen = Seen::frame(&series.frame).map_err(|problem| anyhow::anyhow!(problem))?;
    ensure!(seen.checksums_hold(), "a checksum is wrong: {seen:?}");
    let ends = (seen.source, seen.destination);
    let right = match case.step {
        Step::Established => flows.iter().any(|flow| ends == (flow.hidden, flow.backend)),
        Step::Answer => flows.iter().any(|flow| ends == (flow.frontend, flow.client)),
        _ => seen.source.ip() == address(case.v6) && is_endpoint(seen.destination),
    };
    ensure!(right, "the packet went astray: {seen:?}");
    Ok(())
}

fn is_endpoint(address: SocketAddr) -> bool {
    let right = match address.ip() {
        IpAddr::V4(ip) => ip.octets()[0] == 100,
        IpAddr::V6(ip) => ip.segments()[..2] == [0xfd00, 0x100],
    };
    right && address.port() == TARGET_PORT
}
