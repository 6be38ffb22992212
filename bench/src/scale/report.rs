//! The figures as tables that a person reads.

use comfy_table::{Table, presets::ASCII_MARKDOWN};

use super::{Figures, Stretch};

const NOTE: &str = "Parsed, decided on and written to the kernel's maps on one thread, by the agent's own pipeline. \
    Memory is this\nprocess's, with the simulated cluster in it.";

/// Two tables: one event's cost by the cluster's size, and the largest cluster at several speeds.
pub fn table(figures: &Figures) -> String {
    let mut curve = Table::new();
    curve.load_style(ASCII_MARKDOWN).set_header([
        "nodes",
        "pods",
        "services",
        "parsed in s",
        "programmed in s",
        "CPU us per event",
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
            format!("{:.1}", point.one_by_one.cpu_us_per_event),
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
