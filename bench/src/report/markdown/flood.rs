//! How many small datagrams arrive, and what each of them takes.

use super::{
    table::{line, ratio, section, thousands},
    tables::{destinations, kinds},
};
use crate::{
    probe::client::flood::PAYLOAD,
    report::{Flood, Report},
};

/// Nothing where none were counted.
pub(super) fn floods(text: &mut String, report: &Report) {
    if !report.has_floods() {
        return;
    }
    let lines = |show: fn(&Flood) -> String| -> Vec<_> {
        let lines = kinds(report).flat_map(|kind| destinations(kind).map(move |to| (kind, to)));
        lines.map(|(kind, to)| line(report, kind, to.name(), |figures| figures.flood(to).map(show))).collect()
    };
    section(
        text,
        report,
        "Packets per second",
        &format!(
            "Datagrams of {PAYLOAD} bytes, sent on a connected socket as fast as one thread can and counted where they \
             arrive, by endpoints that share the client's processor: as a ratio, more is better. Behind it, how many \
             thousand in a second. {}",
            lost(report)
        ),
        lines(|flood| format!("{}; {:.0}", ratio(flood.per_second_ratio), flood.per_second.median / 1000.0)),
    );
    section(
        text,
        report,
        "Processor time of a packet",
        "Of client, server and kernel for each of those datagrams that arrived, as a ratio: less is better. Behind it, \
         nanoseconds.",
        lines(|flood| format!("{}; {:.0}", ratio(flood.cpu_ratio), flood.cpu.median)),
    );
}

/// Who lost some of them, and how many at most.
fn lost(report: &Report) -> String {
    let most = |size: u32, name: &str, floods: &[Flood]| {
        let most = floods.iter().map(|flood| flood.lost.max).fold(0.0, f64::max);
        (most > 0.0).then(|| format!("{name} at {}: {:.3} %", thousands(size), 100.0 * most))
    };
    let figures = report.sizes.iter().flat_map(|size| size.figures.iter().map(|figures| (size.services, figures)));
    let losses: Vec<_> =
        figures.filter_map(|(size, figures)| most(size, figures.kind.name(), &figures.floods)).collect();
    if losses.is_empty() {
        return "None was lost.".to_owned();
    }
    format!("Lost in a run, at most: {}; nobody else lost any.", losses.join(", "))
}
