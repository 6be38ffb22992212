//! Runs one row with real sockets, for every protocol and family that it speaks of, and judges what came of it.

use std::{
    collections::BTreeSet,
    env,
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use millrace_tests::{
    client::{self, Stream},
    packet::{Flags, Packet, Seen, SeenBody},
    place::Place,
    probe::{self, Attempt, Manner, Outcome},
    wire::Wire,
};

use crate::{
    scene::{Scene, destination},
    table::{Case, Expect, From, Protocol, Reached, Socket, Source, Verdict},
};

/// Over so many connections an endpoint out of two is missed once in a thousand million runs.
const ENOUGH: usize = 30;
/// "At once", on a busy machine.
const AT_ONCE: f64 = 500.0;

/// One way to run a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    pub(crate) protocol: Protocol,
    pub(crate) v6: bool,
}

/// All ways to run it: TCP and UDP, IPv4 and IPv6, unless the row says otherwise.
pub(crate) fn variants(case: &Case) -> Vec<Variant> {
    let protocols = match (case.protocol, &case.tcp) {
        (Some(protocol), _) => vec![protocol],
        (None, Some(_)) => vec![Protocol::Tcp],
        (None, None) => vec![Protocol::Tcp, Protocol::Udp],
    };
    let families: &[bool] = if case.socket == Some(Socket::Mapped) { &[false] } else { &[false, true] };
    families.iter().flat_map(|v6| protocols.iter().map(|protocol| Variant { protocol: *protocol, v6: *v6 })).collect()
}

/// `TCP, UDP; IPv4, IPv6`
pub(crate) fn said(variants: &[Variant]) -> String {
    let protocols = [(Protocol::Tcp, "TCP"), (Protocol::Udp, "UDP")];
    let protocols = protocols.iter().filter(|(protocol, _)| variants.iter().any(|v| v.protocol == *protocol));
    let families = [(false, "IPv4"), (true, "IPv6")];
    let families = families.iter().filter(|(v6, _)| variants.iter().any(|v| v.v6 == *v6));
    let joined = |names: Vec<&str>| names.join(", ");
    format!(
        "{}; {}",
        joined(protocols.map(|(_, name)| *name).collect()),
        joined(families.map(|(_, name)| *name).collect())
    )
}

/// Runs the row. One message for each variant that failed.
pub(crate) fn run(scene: &mut Scene, case: &Case) -> Result<Vec<String>> {
    scene.apply(case, false)?;
    let result = if case.established { established(scene, case) } else { connections(scene, case) };
    scene.clear()?;
    result
}

fn connections(scene: &mut Scene, case: &Case) -> Result<Vec<String>> {
    if case.service.becomes.is_some() {
        scene.apply(case, true)?;
    }
    let scene = &*scene;
    // At the same time: a row that waits for a timeout takes long enough once.
    let failed = thread::scope(|scope| {
        let threads: Vec<_> =
            variants(case).into_iter().map(|v| (v, scope.spawn(move || variant(scene, case, v)))).collect();
        threads
            .into_iter()
            .filter_map(|(variant, thread)| {
                let result = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result.err().map(|error| format!("{variant:?}: {error:#}"))
            })
            .collect()
    });
    Ok(failed)
}

fn variant(scene: &Scene, case: &Case, variant: Variant) -> Result<()> {
    let to: Vec<_> = case.dst.all().iter().map(|dst| destination(dst, variant.v6)).collect::<Result<_>>()?;
    let (place, address) = scene.client(case.from, variant.v6)?;
    let client = Client { place, address };
    let manner = Manner { every: pause(case)?, ..manner(variant.protocol) };
    match &case.expect {
        Expect::Verdict(Verdict::Untouched) => untouched(scene, case, &client, to[0], &manner),
        Expect::Verdict(verdict) => {
            let attempts = client::connect(&client.place, &to, 3 * to.len(), &Manner { timeout: 700, ..manner })?;
            attempts.iter().try_for_each(|attempt| verdict_holds(*verdict, attempt))
        }
        Expect::Reached(reached) => reached_holds(scene, case, &client, &to, &manner, reached, variant.v6),
    }
}

struct Client {
    place: Place,
    address: IpAddr,
}

fn verdict_holds(verdict: Verdict, attempt: &Attempt) -> Result<()> {
    let holds = match verdict {
        Verdict::Reject | Verdict::RefusedByNobodyListening => {
            attempt.outcome == Outcome::Refused && attempt.milliseconds < AT_ONCE
        }
        Verdict::Drop => attempt.outcome == Outcome::Silence,
        Verdict::Untouched => bail!("untouched is seen on the wire, not by the client"),
    };
    ensure!(holds, "expected {verdict:?}, got {attempt:?}");
    Ok(())
}

fn reached_holds(
    scene: &Scene,
    case: &Case,
    client: &Client,
    to: &[SocketAddr],
    manner: &Manner,
    reached: &Reached,
    v6: bool,
) -> Result<()> {
    let wanted = servers(reached)?;
    let most = case.connections.unwrap_or(ENOUGH) * to.len();
    let mut seen = BTreeSet::new();
    let mut done = 0;
    while done < most {
        // With a pause between connections, stop as soon as all were seen; else one process makes them all.
        let batch = if manner.every > 0 { to.len() } else { most };
        if done > 0 {
            thread::sleep(manner.every());
        }
        for attempt in client::connect(&client.place, to, batch, manner)? {
            let Outcome::Answered { greeting, peer } = &attempt.outcome else { bail!("no answer: {attempt:?}") };
            ensure!(wanted.contains(&greeting.name), "{} is none of {wanted:?}: {attempt:?}", greeting.name);
            ensure!(*peer == attempt.to, "the client was shown another peer than it named: {attempt:?}");
            let source = greeting.client.ip();
            match reached.src {
                Some(Source::Kept) => {
                    ensure!(source == client.address, "source {source}, not {}: {attempt:?}", client.address);
                }
                Some(Source::Node) => {
                    let node = scene.n1()?.address(v6);
                    ensure!(source == node, "source {source}, not the node's {node}: {attempt:?}");
                }
                Some(Source::Any) | None => {}
            }
            seen.insert(greeting.name.clone());
        }
        done += batch;
        if reached.to.is_some() && seen.len() == wanted.len() {
            return Ok(());
        }
    }
    ensure!(reached.to.is_none(), "of {wanted:?} only {seen:?} were reached in {done} connections");
    ensure!(seen.len() == 1, "not one and the same, but {seen:?} in {done} connections");
    Ok(())
}

/// The connection or the flow is there first, then the service changes.
fn established(scene: &mut Scene, case: &Case) -> Result<Vec<String>> {
    let Expect::Reached(reached) = &case.expect else { bail!("an established connection needs `to:`") };
    let wanted = servers(reached)?;
    let mut streams = Vec::new();
    for variant in variants(case) {
        let to = destination(case.dst.all().first().context("no destination")?, variant.v6)?;
        let (place, _) = scene.client(case.from, variant.v6)?;
        let timeout = here(0.2).as_millis().try_into()?;
        let manner = Manner { timeout, every: 10, ..manner(variant.protocol) };
        let mut stream = Stream::start(&place, to, &manner)?;
        stream.wait_for(here(2.0), |outcome| {
            outcome.server().is_some_and(|server| case.service.endpoints.iter().any(|name| name == server))
        })?;
        streams.push((variant, stream));
    }
    let patience = reached.within.as_deref().map_or(Ok(2.0), seconds)?;
    scene.write(case, true)?;
    let mut failed = Vec::new();
    for (variant, mut stream) in streams {
        let judged = (|| {
            if reached.unbroken {
                // Long enough for the change to be in force and for many exchanges after it.
                thread::sleep(here(0.5));
                let lines = stream.stop()?;
                let kept = lines.iter().all(|line| line.outcome.server().is_some_and(|s| wanted.contains(s)));
                ensure!(kept && lines.last().is_some_and(|line| line.exchanges > 20), "broken: {lines:?}");
                return Ok(());
            }
            let moved = |outcome: &Outcome| outcome.server().is_some_and(|server| wanted.contains(server));
            stream.wait_for(here(patience), moved)?;
            thread::sleep(here(0.2));
            let lines = stream.stop()?;
            ensure!(lines.iter().all(|line| moved(&line.outcome)), "it did not stay there: {lines:?}");
            Ok(())
        })();
        failed.extend(judged.err().map(|error: anyhow::Error| format!("{variant:?}: {error:#}")));
    }
    Ok(failed)
}

/// What the client sends leaves the node as it was sent.
fn untouched(scene: &Scene, case: &Case, client: &Client, to: SocketAddr, manner: &Manner) -> Result<()> {
    let uplink = Wire::open(&scene.n1()?.netns, "uplink")?;
    let wanted = |seen: &Seen| seen.destination == to && seen.source.ip() == client.address;
    let Some(segment) = &case.tcp else {
        let _ = client::connect(&client.place, &[to], 1, &Manner { timeout: 300, ..manner.clone() })?;
        ensure!(uplink.find(here(1.0), wanted)?.is_some(), "nothing to {to} left the node");
        return Ok(());
    };
    ensure!(case.from == From::Pod, "single segments are sent by the pod");
    let pod = scene.pod("p1b")?;
    let flags = match segment.flags {
        crate::table::TcpFlags::Ack => Flags::ACK,
    };
    let mut packet = Packet::tcp(SocketAddr::new(client.address, 4001), to, flags).payload(b"middle");
    (packet.source_mac, packet.destination_mac) = (pod.mac, pod.host_mac);
    Wire::open(&pod.netns, "eth0")?.send(&packet.frame())?;
    let seen = uplink.find(here(1.0), wanted)?.with_context(|| format!("nothing to {to} left the node"))?;
    let same = matches!(&seen.body, SeenBody::Tcp { flags: f, payload, .. } if *f == flags && payload == b"middle");
    ensure!(same && seen.source == packet.source && seen.checksums_hold(), "it was changed: {seen:?}");
    Ok(())
}

/// Packets of a row from outside that the XDP on n1 serves at least: of each variant, a question to the pod of the other
/// node and its answer, or one packet that it drops.
pub(crate) fn packets_of_xdp(case: &Case) -> u64 {
    let each = match &case.expect {
        Expect::Reached(reached) => {
            let elsewhere = reached.to.as_ref().is_some_and(|names| names.iter().any(|name| name == "p2"));
            if elsewhere { 2 } else { 0 }
        }
        Expect::Verdict(Verdict::Drop) => 1,
        Expect::Verdict(_) => 0,
    };
    each * variants(case).len() as u64
}

fn servers(reached: &Reached) -> Result<BTreeSet<String>> {
    let names = reached.to.as_ref().or(reached.to_one_of.as_ref()).context("neither `to` nor `to-one-of`")?;
    Ok(names.iter().cloned().collect())
}

fn manner(protocol: Protocol) -> Manner {
    Manner::of(match protocol {
        Protocol::Tcp => probe::Protocol::Tcp,
        Protocol::Udp => probe::Protocol::Udp,
    })
}

/// Milliseconds between connections.
fn pause(case: &Case) -> Result<u64> {
    let every = case.every.as_deref().map_or(Ok(0.0), seconds)?;
    Ok(Duration::from_secs_f64(every).as_millis().try_into()?)
}

fn seconds(text: &str) -> Result<f64> {
    let number = text.strip_suffix('s').with_context(|| format!("{text} is no time such as 3s"))?;
    Ok(number.parse()?)
}

/// So many seconds of a row: an emulated machine does in ten what another does in one.
fn here(seconds: f64) -> Duration {
    Duration::from_secs_f64(if env::var_os("MILLRACE_MACHINE").is_some() { 10.0 * seconds } else { seconds })
}
