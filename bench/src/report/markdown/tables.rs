//! A table for each question.

use std::collections::BTreeSet;

use super::{
    churn::churn,
    flood::floods,
    table::{Line, decimals, line, ratio, section},
};
use crate::{
    cluster::Position,
    contestants::Kind,
    probe::client::{Operation, STREAMED},
    report::{Destination, Figures, Report, Traffic},
    rivals::Way,
    stats::Spread,
};

const ENDPOINT: Destination = Destination::Endpoint;

/// Of so few that no hundredth is among them, the slowest stands for it.
fn slow(report: &Report) -> String {
    if report.rounds < 100 {
        return format!("The same for the slowest of the {} operations of each run.", report.rounds);
    }
    "The same for the slowest hundredth (p99).".to_owned()
}

/// All of them, with their headings.
#[must_use]
pub fn tables(report: &Report) -> String {
    let mut text = String::new();
    section(
        &mut text,
        report,
        "Connections",
        "Time of connect(), median, as a ratio to the same on a node without a proxy. *First*, *random* and *last* are \
         services by the order in which they were programmed; *endpoint* is a connection past all services, which shows \
         what a node pays for traffic that is none of a service's. Of one service the three are the same. A turn begins with *first*, on caches that another \
         contestant has just used; *last* and *endpoint* find them warmer.",
        to_all(report, Operation::Connect, |traffic| traffic.p50_ratio),
    );
    section(
        &mut text,
        report,
        "Slow connections",
        &slow(report),
        to_all(report, Operation::Connect, |traffic| traffic.p99_ratio),
    );
    section(
        &mut text,
        report,
        "Programming",
        "Seconds of deciding and writing, from no services to all, with the generation of the rules. *With start* is \
         millrace's agent from exec() on: reading its programs into the kernel, and all lists from the API server. *Of it* is \
         where the time of one that writes to several parts of the kernel went. What takes longer than 3 s is done once only: \
         that figure has no range, and says *once*.",
        programming(report),
    );
    section(
        &mut text,
        report,
        "One change",
        "Milliseconds until one endpoint of one service has gone or come. For millrace from the API server's event to its \
         effect; for the rivals from the call to the end of the tools, without the API server's part.",
        changes(report),
    );
    section(
        &mut text,
        report,
        "Memory",
        &format!(
            "MiB; the kernel's for rules, sets{}, and the agent's own. The kernel's is measured in two ways: see *What these \
             figures cannot show*.",
            if report.counts_programs() { ", maps and programs" } else { " and maps" }
        ),
        memory(report),
    );
    for (operation, heading, words) in [
        (Operation::Request, "Requests on new connections", "connect(), one request, its response; median as a ratio."),
        (Operation::Kept, "Requests on a connection that stays", "Median as a ratio."),
        (Operation::Datagram, "UDP", "One request and response on a socket that stays, median as a ratio."),
        (
            Operation::Stream,
            "Throughput",
            "Time of 4 MiB over a connection that stays, median as a ratio: less is more.",
        ),
    ] {
        section(&mut text, report, heading, words, to_all(report, operation, |traffic| traffic.p50_ratio));
        if let Operation::Request | Operation::Datagram = operation {
            let lines = to_all(report, operation, |traffic| traffic.p99_ratio);
            section(&mut text, report, &format!("{heading}: the slow ones"), &slow(report), lines);
        }
    }
    floods(&mut text, report);
    churn(&mut text, report);
    section(
        &mut text,
        report,
        "Processor time",
        "Of client, server and kernel for a new connection, a request and its response, as a ratio.",
        to_all(report, Operation::Request, |traffic| traffic.cpu_ratio),
    );
    section(&mut text, report, "The direct path", "Medians of this machine, for orientation only.", absolute(report));
    text
}

pub(super) fn kinds(report: &Report) -> impl Iterator<Item = Kind> {
    report.participants.iter().filter(|participant| participant.absent.is_none()).map(|participant| participant.kind)
}

fn figures_of(report: &Report, kind: Kind) -> impl Iterator<Item = &Figures> {
    report.sizes.iter().filter_map(move |size| size.of(kind))
}

pub(super) fn destinations(kind: Kind) -> impl Iterator<Item = Destination> {
    let services = Position::ALL.into_iter().filter(move |_| kind != Kind::Direct).map(Destination::Service);
    services.chain([ENDPOINT])
}

fn traffic_line(
    report: &Report,
    kind: Kind,
    to: Destination,
    operation: Operation,
    read: fn(&Traffic) -> Spread,
) -> Line {
    line(report, kind, to.name(), |figures| figures.traffic(operation, to).map(|traffic| ratio(read(traffic))))
}

/// A line for each destination.
fn to_all(report: &Report, operation: Operation, read: fn(&Traffic) -> Spread) -> Vec<Line> {
    let lines = kinds(report).flat_map(|kind| destinations(kind).map(move |to| (kind, to)));
    lines.map(|(kind, to)| traffic_line(report, kind, to, operation, read)).collect()
}

fn figure_lines(report: &Report, read: fn(&Figures) -> Option<Spread>, show: fn(Spread) -> String) -> Vec<Line> {
    let kinds = kinds(report).filter(|kind| *kind != Kind::Direct);
    kinds.map(|kind| line(report, kind, "", |figures| read(figures).map(show))).collect()
}

fn changes(report: &Report) -> Vec<Line> {
    let mut lines = figure_lines(report, |figures| figures.change, decimals);
    let proxies = kinds(report).filter(|kind| *kind != Kind::Direct);
    lines.extend(proxies.map(|kind| {
        line(report, kind, "p99", |figures| {
            figures.change_p99.map(|p99| decimals(Spread { median: p99, min: p99, max: p99 }))
        })
    }));
    lines
}

fn programming(report: &Report) -> Vec<Line> {
    let proxies = kinds(report).filter(|kind| *kind != Kind::Direct);
    let took = |figures: &Figures| {
        let once = if figures.was_programmed_once() { " once" } else { "" };
        figures.programming.map(|took| decimals(took) + once)
    };
    let mut lines: Vec<_> = proxies.map(|kind| line(report, kind, "", took)).collect();
    let started = kinds(report).filter(|kind| kind.is_millrace());
    lines.extend(started.map(|kind| line(report, kind, "with start", |figures| figures.start.map(decimals))));
    for kind in kinds(report) {
        let ways: BTreeSet<Way> =
            figures_of(report, kind).flat_map(|figures| figures.parts.iter().map(|part| part.way)).collect();
        let parts = ways.into_iter().map(|way| (way, format!("of it: {}", way.name())));
        lines.extend(parts.map(|(way, name)| line(report, kind, &name, |figures| figures.part(way).map(decimals))));
    }
    lines
}

fn memory(report: &Report) -> Vec<Line> {
    let mib = |mib: Option<f64>| mib.map(|mib| format!("{mib:.1}"));
    let proxies = kinds(report).filter(|kind| *kind != Kind::Direct);
    let mut lines: Vec<_> =
        proxies.map(|kind| line(report, kind, "kernel", |figures| mib(figures.memory.kernel))).collect();
    for kind in kinds(report).filter(|kind| kind.is_millrace()) {
        if report.counts_programs() {
            lines.push(line(report, kind, "kernel, of it programs", |figures| mib(figures.memory.programs)));
        }
        lines.push(line(report, kind, "agent", |figures| mib(figures.memory.agent)));
        lines.push(line(report, kind, "agent, without the maps", |figures| mib(figures.memory.agent_anonymous)));
    }
    lines
}

fn absolute(report: &Report) -> Vec<Line> {
    let operations = [
        (Operation::Connect, "connect, us"),
        (Operation::Request, "request on a new connection, us"),
        (Operation::Kept, "request on one that stays, us"),
        (Operation::Datagram, "datagram and answer, us"),
    ];
    let direct = |operation, what| {
        line(report, Kind::Direct, what, move |figures: &Figures| {
            figures.traffic(operation, ENDPOINT).map(|traffic| format!("{:.1}", traffic.p50.median))
        })
    };
    let mut lines: Vec<_> = operations.into_iter().map(|(operation, what)| direct(operation, what)).collect();
    lines.push(line(report, Kind::Direct, "throughput, MiB/s", |figures| {
        let microseconds = figures.traffic(Operation::Stream, ENDPOINT)?.p50.median;
        Some(format!("{:.0}", STREAMED as f64 / f64::from(1 << 20) / microseconds * 1e6))
    }));
    lines.push(line(report, Kind::Direct, "processor time of a request, us", |figures| {
        figures.traffic(Operation::Request, ENDPOINT).map(|traffic| format!("{:.1}", traffic.cpu.median))
    }));
    lines
}
