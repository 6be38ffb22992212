//! Against the direct path, and in times that a machine of its own keeps.

use super::{Bar, LARGE, gaps, not_measured};
use crate::{
    cluster::Position,
    contestants::Kind,
    probe::client::Operation,
    report::{Destination, Figures, Report, markdown::thousands},
};

/// Ten times that.
const HUGE: u32 = 100_000;

pub(super) fn bars(report: &Report) -> Vec<Bar> {
    let mut bars = vec![
        connections(report),
        rate(report),
        worst(
            report,
            "a datagram and its answer, translated packet by packet, take at most 1.10 of direct ones, at every size",
            1.10,
            ratios(report, Operation::Datagram).map(|ratio| (ratio.bare, ratio.services)),
        ),
    ];
    // An emulated machine's clock counts instructions: its seconds are nobody's.
    if !report.is_emulated() {
        let programming = |figures: &Figures| Some(figures.programming?.median);
        bars.extend([
            within(report, "programming 10,000 services x 10 endpoints", 0.15, "s", LARGE, programming),
            within(report, "programming 100,000 services x 10 endpoints", 1.5, "s", HUGE, programming),
            within(report, "one change among 10,000 services, p99", 2.0, "ms", LARGE, |figures| figures.change_p99),
            within(report, "the agent's memory at 10,000 services", 60.0, "MiB", LARGE, |figures| figures.memory.agent),
        ]);
    }
    bars
}

struct Ratio {
    services: u32,
    /// To the same on a node without any program.
    bare: f64,
    /// To the same past all services on millrace's node.
    own: f64,
}

/// Of millrace, at every size and position that was measured.
fn ratios(report: &Report, operation: Operation) -> impl Iterator<Item = Ratio> {
    ratios_of(report, Kind::Millrace, operation)
}

fn ratios_of(report: &Report, kind: Kind, operation: Operation) -> impl Iterator<Item = Ratio> {
    report.sizes.iter().flat_map(move |size| {
        let positions = Position::ALL.into_iter().map(Destination::Service);
        let figures = size.of(kind);
        positions.filter_map(move |to| {
            let traffic = figures?.traffic(operation, to)?;
            let (bare, own) = (traffic.p50_ratio.median, traffic.p50_own_ratio.median);
            Some(Ratio { services: size.services, bare, own })
        })
    })
}

fn connections(report: &Report) -> Bar {
    let bare = ratios(report, Operation::Connect).map(|ratio| (ratio.bare, ratio.services));
    let promise = "connect() through the socket path takes at most 1.02 of a direct one, at every size";
    let bar = worst(report, promise, 1.02, bare);
    let own = ratios(report, Operation::Connect).map(|ratio| ratio.own).max_by(f64::total_cmp);
    let own = own.map(|own| format!("; the translation itself at most {own:.3} of a connection past it"));
    let stack = ratios_of(report, Kind::MillraceStack, Operation::Connect).map(|ratio| ratio.bare);
    let stack = stack.max_by(f64::total_cmp).map(|stack| format!("; with `--host-routing off` at most {stack:.3}"));
    Bar { found: bar.found + &own.unwrap_or_default() + &stack.unwrap_or_default(), ..bar }
}

/// One client, one connection after the other: as many a second as the median one allows.
fn rate(report: &Report) -> Bar {
    let of_one = ratios(report, Operation::Request).filter(|ratio| ratio.services == 1);
    let rate = of_one.map(|ratio| 1.0 / ratio.bare).min_by(f64::total_cmp);
    Bar {
        promise: "new connections a second, each with a request, through one service: at least 0.97 of direct ones"
            .to_owned(),
        found: rate.map_or_else(not_measured, |rate| format!("{rate:.3} of direct ones, by the median of each")),
        gaps: Vec::new(),
        met: rate.map(|rate| rate >= 0.97),
    }
}

/// Of every size that is measured unless others are asked for.
fn worst(report: &Report, promise: &str, most: f64, ratios: impl Iterator<Item = (f64, u32)>) -> Bar {
    let worst = ratios.max_by(|a, b| a.0.total_cmp(&b.0));
    Bar {
        promise: promise.to_owned(),
        found: worst
            .map_or_else(not_measured, |(ratio, services)| format!("at most {ratio:.3} (at {})", thousands(services))),
        gaps: gaps::of_sizes(report).into_iter().collect(),
        met: worst.map(|(ratio, _)| ratio <= most),
    }
}

fn within(
    report: &Report,
    what: &str,
    most: f64,
    unit: &str,
    services: u32,
    read: impl Fn(&Figures) -> Option<f64>,
) -> Bar {
    let size = report.sizes.iter().find(|size| size.services == services);
    let found = size.and_then(|size| read(size.of(Kind::Millrace)?));
    Bar {
        promise: format!("{what}: at most {most} {unit}"),
        found: found.map_or_else(not_measured, |found| format!("{found:.3} {unit}")),
        gaps: Vec::new(),
        met: found.map(|found| found <= most),
    }
}
