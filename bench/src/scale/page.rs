//! The figures as tables, as a page and as plots. Pure.

use anyhow::Result;
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use plotters::style::RGBColor;

use super::{Figures, Point, Stretch};
use crate::report::{
    bars::Bar,
    markdown::{held_against, thousands},
    plots::{Line, drawn},
};

/// The cost of an event with cold caches may differ so much between the smallest cluster and the largest.
const GROWTH: f64 = 1.25;

const NOTE: &str = "Parsed, decided on and written to the kernel's maps on one thread, by the agent's own pipeline. \
    Services of the same\nsizes change in all lines but the last one, in the same order: an event is as large, and what it costs can be compared.\n\
    Memory is this process's, with the simulated cluster in it. The last line of the first table, which the promise leaves\n\
    out, is another cluster: its services have 50 endpoints each, and a change of one is as much more to read and to write.";

const LIMITS: &str = "\
## What these figures cannot show

- An API server, its watches and a network: events come from this process, as JSON, one after the other.
- The whole agent: one thread reads, decides and writes here; in the agent reading is another's, and events wait while a \
round is under way.
- Its memory alone: the simulated cluster is in the same process.
- What clients see: nothing is attached, and nobody connects. `cargo xtask bench services` measures that, and churn.
- Rivals: a cluster of this size and its events are given to millrace only.
";

/// Two tables: one event's cost by the cluster's size, and the largest cluster at several speeds.
pub fn table(figures: &Figures) -> String {
    let mut curve = Table::new();
    curve.load_style(ASCII_MARKDOWN).set_header([
        "nodes",
        "pods",
        "services",
        "parsed in s",
        "programmed in s",
        "bytes per event",
        "CPU us per event",
        "with cold caches",
        "one event ms p50",
        "p99",
        "resident MiB",
    ]);
    for point in figures.curve.iter().chain([&figures.wide]) {
        curve.add_row([
            point.size.nodes.to_string(),
            point.pods.to_string(),
            point.size.services.to_string(),
            format!("{:.3}", point.start.parsing_seconds),
            format!("{:.3}", point.start.programming_seconds),
            format!("{:.0}", point.one_by_one.bytes_per_event),
            format!("{:.1}", point.one_by_one.cpu_us_per_event),
            format!("{:.1}", point.cold.cpu_us_per_event),
            format!("{:.3}", point.one_by_one.latency_ms_p50),
            format!("{:.3}", point.one_by_one.latency_ms_p99),
            format!("{:.0}", point.resident_mib),
        ]);
    }
    let mut speeds = Table::new();
    speeds.load_style(ASCII_MARKDOWN).set_header([
        "largest cluster",
        "events",
        "in s",
        "event to map ms p50",
        "p99",
        "worst",
        "CPU us per event",
        "CPU busy",
    ]);
    let mut row = |what: String, stretch: &Stretch| {
        speeds.add_row([
            what,
            stretch.events.to_string(),
            format!("{:.2}", stretch.seconds),
            format!("{:.3}", stretch.latency_ms_p50),
            format!("{:.3}", stretch.latency_ms_p99),
            format!("{:.2}", stretch.latency_ms_max),
            format!("{:.1}", stretch.cpu_us_per_event),
            format!("{:.1} %", stretch.cpu_us_per_event * stretch.events as f64 / stretch.seconds / 1e4),
        ]);
    };
    figures.speeds.iter().for_each(|(speed, stretch)| row(format!("{speed} x its own speed"), stretch));
    row("a zone fails, all at once".to_owned(), &figures.zone_fails);
    row("the zone returns, all at once".to_owned(), &figures.zone_returns);
    format!("{curve}\n\n{speeds}\n\n{NOTE}")
}

/// The whole page.
#[must_use]
pub fn page(figures: &Figures) -> String {
    format!(
        "# A large cluster's life\n\nOne run of `cargo xtask bench scale`, {}: the events of a simulated cluster go into the \
         agent's own pipeline, and each is timed until it is in the kernel's maps.\n\n\
         {}\n\n{}\n\
         ![Cost of one event, by number of services](benchmarks/scale.svg)\n\n{}\n\n{LIMITS}\n\
         ## Reproduce\n\n```console\n# cargo xtask bench {}\n```\n\nAs root. [Every figure as JSON](benchmarks/scale.json).\n",
        figures.machine.time,
        figures.machine.sentence(),
        held_against(&[flat(figures)]),
        table(figures),
        figures.arguments.join(" "),
    )
}

/// What is promised: the work of a change is proportional to the change.
fn flat(figures: &Figures) -> Bar {
    let warm = |point: &Point| point.one_by_one.cpu_us_per_event;
    let cold = |point: &Point| point.cold.cpu_us_per_event;
    let ratio = growth(&figures.curve, cold).zip(growth(&figures.curve, warm));
    Bar {
        promise: format!(
            "an event's work does not grow with the cluster: with cold caches, at most {GROWTH} times what it is in the \
             smallest one"
        ),
        found: ratio.map_or_else(
            || "**not measured in this run**".to_owned(),
            |((cold, at), (warm, _))| {
                format!(
                    "at most {cold:.2} times (at {} services); {warm:.2} times with what a small cluster keeps in caches",
                    thousands(at)
                )
            },
        ),
        gaps: Vec::new(),
        met: ratio.map(|((cold, _), _)| cold <= GROWTH),
    }
}

/// How many times its cost in the smallest cluster an event costs where it costs most, and how many services are there.
fn growth(curve: &[Point], cost: impl Fn(&Point) -> f64) -> Option<(f64, u32)> {
    let smallest = curve.first().map(&cost).filter(|cost| *cost > 0.0)?;
    let dearest = curve.iter().max_by(|a, b| cost(a).total_cmp(&cost(b)))?;
    Some((cost(dearest) / smallest, dearest.size.services))
}

/// File name and content of each.
///
/// # Errors
/// What the plotting library says.
pub(super) fn plots(figures: &Figures) -> Result<Vec<(&'static str, String)>> {
    let line = |name: &str, colour, of: fn(&Point) -> f64| {
        let points = figures.curve.iter().map(|point| (f64::from(point.size.services), of(point)));
        Line { name: name.to_owned(), colour, width: 3, dashed: false, points: points.collect() }
    };
    let lines = [
        line("processor time", RGBColor(0x1a, 0x9a, 0x8a), |point| point.one_by_one.cpu_us_per_event),
        line("the same with cold caches", RGBColor(0x6a, 0x5a, 0xc8), |point| point.cold.cpu_us_per_event),
        line("event to map, p50", RGBColor(0xd9, 0x5f, 0x43), |point| point.one_by_one.latency_ms_p50 * 1000.0),
        line("event to map, p99", RGBColor(0xd6, 0x8a, 0x1f), |point| point.one_by_one.latency_ms_p99 * 1000.0),
    ];
    Ok(vec![("scale.svg", drawn("microseconds of one event", &lines)?)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        machine::Machine,
        scale::{Shape, Size, Start},
    };

    /// Of clusters in which an event costs this many microseconds with cold caches.
    fn figures(cold: &[f64]) -> Figures {
        let stretch = |cpu_us_per_event| Stretch { cpu_us_per_event, ..Stretch::default() };
        let point = |(i, cost): (u32, &f64)| Point {
            size: Size { nodes: 3, services: 10u32.pow(i + 2), shape: Shape::Mixed },
            pods: 0,
            start: Start::default(),
            one_by_one: stretch(50.0),
            cold: stretch(*cost),
            resident_mib: 1.0,
        };
        Figures {
            arguments: Vec::new(),
            machine: Machine::default(),
            curve: (0..).zip(cold).map(point).collect(),
            // Its events are larger: it is no part of the promise.
            wide: point((0, &1e6)),
            speeds: Vec::new(),
            zone_fails: Stretch::default(),
            zone_returns: Stretch::default(),
        }
    }

    #[test]
    fn an_events_work_may_grow_by_a_quarter_and_no_more() {
        let bar = flat(&figures(&[200.0, 249.0, 240.0]));
        assert_eq!((bar.met, bar.found.contains("at most 1.25 times (at 1,000 services); 1.00")), (Some(true), true));
        assert_eq!(flat(&figures(&[200.0, 150.0, 251.0])).met, Some(false));
        assert_eq!(flat(&figures(&[0.0, 10.0])).met, None, "nothing was measured in the smallest one");
    }
}
