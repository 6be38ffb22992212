//! Against what operators run today.

use super::{Bar, LARGE, gaps, not_measured};
use crate::{
    cluster::Position,
    contestants::Kind,
    probe::client::Operation,
    report::{Destination, Figures, Report, Size, markdown::thousands},
    rivals::Way,
};

/// How many times as fast one change is to be.
const CHANGE: f64 = 100.0;

pub(super) fn bars(report: &Report) -> Vec<Bar> {
    let mut bars = vec![better_than_rivals(report)];
    let programming = "programming 10,000 services x 10 endpoints";
    for rival in [Kind::IptablesLegacy, Kind::IptablesNft, Kind::Nftables] {
        let bar = faster(report, programming, rival, 50.0, |size, kind| seconds(size, kind, report.limit_seconds));
        bars.push(with_start(bar, report, rival));
    }
    bars.push(over_netlink(faster(report, programming, Kind::Ipvs, 3.0, netlink), report));
    for rival in [Kind::IptablesLegacy, Kind::IptablesNft] {
        let bar = faster(report, "one change among 10,000 services", rival, CHANGE, change);
        bars.push(as_among_fewer(bar, report, rival));
    }
    bars
}

/// Where it comes closest. Every rival of every size is either held against it or named as a gap.
pub(super) fn better_than_rivals(report: &Report) -> Bar {
    let mut closest: Option<(f64, Kind, u32)> = None;
    for size in &report.sizes {
        for rival in Kind::ALL.into_iter().filter(|kind| kind.is_rival()) {
            let margin = margin(size, rival);
            if let Some(margin) = margin.filter(|margin| closest.is_none_or(|(least, ..)| *margin < least)) {
                closest = Some((margin, rival, size.services));
            }
        }
    }
    let mut gaps = gaps::of_rivals(report, |size, rival| margin(size, rival).is_some());
    gaps.extend(gaps::of_sizes(report));
    Bar {
        promise: "connect() takes less than through any rival, at every size, one service included".to_owned(),
        found: closest.map_or_else(not_measured, |(margin, rival, services)| {
            format!("the closest is {} at {}: {margin:.2} of millrace's", rival.name(), thousands(services))
        }),
        gaps,
        met: closest.map(|(margin, ..)| margin > 1.0),
    }
}

/// What connect() takes with a rival, as a ratio to millrace's, where that is least; `None` unless all of it was measured.
fn margin(size: &Size, rival: Kind) -> Option<f64> {
    let median = |kind, position| -> Option<f64> {
        Some(size.of(kind)?.traffic(Operation::Connect, Destination::Service(position))?.p50_ratio.median)
    };
    let margins = Position::ALL.map(|position| Some(median(rival, position)? / median(Kind::Millrace, position)?));
    margins.into_iter().try_fold(f64::MAX, |least, margin| Some(least.min(margin?)))
}

struct Took {
    value: f64,
    /// It was given up then.
    at_least: bool,
}

fn seconds(size: &Size, kind: Kind, limit: f64) -> Option<Took> {
    let figures = size.of(kind)?;
    match (figures.programming, figures.given_up) {
        (Some(programming), _) => Some(Took { value: programming.median, at_least: false }),
        (None, true) => Some(Took { value: limit, at_least: true }),
        (None, false) => None,
    }
}

/// A tool of a rival's begins and ends with each change, an agent once: what that takes is said, too.
fn with_start(bar: Bar, report: &Report, rival: Kind) -> Bar {
    let size = report.sizes.iter().find(|size| size.services == LARGE);
    let start = size.and_then(|size| {
        let took = seconds(size, rival, report.limit_seconds)?;
        let times = took.value / size.of(Kind::Millrace)?.start?.median;
        let at_least = if took.at_least { "more than " } else { "" };
        Some(format!("; {at_least}{times:.0} times with the agent's start, which loads its programs"))
    });
    Bar { found: bar.found + &start.unwrap_or_default(), ..bar }
}

/// All of millrace's programming against IPVS's virtual servers alone.
fn netlink(size: &Size, kind: Kind) -> Option<Took> {
    let figures = size.of(kind)?;
    let took = if kind == Kind::Ipvs { figures.part(Way::Netlink) } else { figures.programming };
    Some(Took { value: took?.median, at_least: false })
}

/// The promise about IPVS is one about netlink; what its IP sets, addresses and rules take besides is said, too.
fn over_netlink(bar: Bar, report: &Report) -> Bar {
    let whole =
        report.sizes.iter().find(|size| size.services == LARGE).and_then(|size| {
            Some(size.of(Kind::Ipvs)?.programming?.median / size.of(Kind::Millrace)?.programming?.median)
        });
    let whole = whole.map(|times| format!("; {times:.0} times with its IP sets, addresses and rules"));
    Bar { promise: bar.promise + " over netlink", found: bar.found + &whole.unwrap_or_default(), ..bar }
}

fn change(size: &Size, kind: Kind) -> Option<Took> {
    Some(Took { value: size.of(kind)?.change?.median, at_least: false })
}

/// A rival that was given up before it had so many services: no tool has less to do for one change among more of them, so what
/// it took among the most that it was given is the least that it would have taken.
fn as_among_fewer(bar: Bar, report: &Report, rival: Kind) -> Bar {
    let Some(size) = report.sizes.iter().find(|size| size.services == LARGE) else { return bar };
    let Some(own) = change(size, Kind::Millrace).filter(|_| size.of(rival).is_some_and(|figures| figures.given_up))
    else {
        return bar;
    };
    let fewer = report.sizes.iter().filter(|size| size.services < LARGE);
    let Some((among, other)) =
        fewer.filter_map(|size| Some((size.services, change(size, rival)?))).max_by_key(|(among, _)| *among)
    else {
        return bar;
    };
    let times = other.value / own.value;
    Bar {
        found: format!("{times:.0} times, of what it took among {}: no less among more", thousands(among)),
        gaps: vec![format!("{} at {}", rival.name(), thousands(LARGE))],
        met: (times >= CHANGE).then_some(true),
        ..bar
    }
}

fn faster(report: &Report, what: &str, rival: Kind, factor: f64, took: impl Fn(&Size, Kind) -> Option<Took>) -> Bar {
    let size = report.sizes.iter().find(|size| size.services == LARGE);
    let pair = size.and_then(|size| Some((took(size, Kind::Millrace)?, took(size, rival)?)));
    let times = pair.map(|(own, other)| (other.value / own.value, other.at_least));
    let given_up = size.and_then(|size| size.of(rival)?.skipped.clone()).unwrap_or_default();
    Bar {
        promise: format!("{what}: {factor:.0} times as fast as {}", rival.name()),
        found: match times {
            Some((times, true)) => format!("more than {times:.0} times: {given_up}"),
            // Close to what is promised a whole number would not say on which side.
            Some((times, false)) if (times - factor).abs() < 1.0 => format!("{times:.2} times"),
            Some((times, false)) => format!("{times:.0} times"),
            None => format!("**not measured**: {}", why_not(size, rival)),
        },
        gaps: Vec::new(),
        // One that was given up too early to tell leaves the question open.
        met: times.and_then(|(times, at_least)| (times >= factor || !at_least).then_some(times >= factor)),
    }
}

/// Why there is no ratio to a rival.
fn why_not(size: Option<&Size>, rival: Kind) -> String {
    let Some(size) = size else { return format!("this run was not asked for {} services", thousands(LARGE)) };
    for kind in [Kind::Millrace, rival] {
        match size.of(kind) {
            None => return format!("this run was not asked for {}", kind.name()),
            Some(Figures { skipped: Some(why), .. }) => return why.clone(),
            Some(_) => {}
        }
    }
    "the figures of this run lack it".to_owned()
}
