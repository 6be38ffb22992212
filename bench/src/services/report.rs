//! The figures as tables that a person reads.

use comfy_table::{Table, presets::ASCII_MARKDOWN};

use super::Figures;
use crate::stats::Spread;

const NOTE: &str = "Ratios are to the direct path in the same run, programs attached. Client and server share one \
    processor, so that\nno figure depends on where the scheduler puts them or on how long an idle processor takes to wake.";

/// Two tables: what the agent costs at each size, and what traffic costs against the direct path.
pub fn table(figures: &[Figures]) -> String {
    let mut agent = Table::new();
    agent.load_style(ASCII_MARKDOWN).set_header([
        "services x 10",
        "families",
        "programmed in s",
        "started in s",
        "one change ms p50",
        "p99",
        "agent RSS MiB",
        "of it its own",
        "maps MiB",
    ]);
    let mut traffic = Table::new();
    traffic.load_style(ASCII_MARKDOWN).set_header([
        "services x 10",
        "what",
        "p50 / direct",
        "p99 / direct",
        "direct p50 us",
    ]);
    for f in figures {
        agent.add_row([
            f.services.to_string(),
            f.families.name().to_owned(),
            format!("{:.3}", f.programming_seconds),
            format!("{:.2}", f.start_seconds),
            format!("{:.2}", f.change_milliseconds_p50),
            format!("{:.2}", f.change_milliseconds_p99),
            format!("{:.1}", f.resident_mib),
            format!("{:.1}", f.anonymous_mib),
            format!("{:.1}", f.maps_mib),
        ]);
        for ratio in &f.traffic {
            traffic.add_row([
                f.services.to_string(),
                ratio.what.clone(),
                show(ratio.p50),
                show(ratio.p99),
                format!("{:.1}", ratio.direct_p50_microseconds),
            ]);
        }
    }
    format!("{agent}\n\n{traffic}\n\n{NOTE}")
}

fn show(spread: Spread) -> String {
    format!("{:.3} ({:.3} to {:.3})", spread.median, spread.min, spread.max)
}
