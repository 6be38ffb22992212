//! Who was misled while endpoints came and went.

use std::fmt::Write;

use comfy_table::{Table, presets::ASCII_MARKDOWN};

use super::table::thousands;
use crate::report::Report;

/// Of the size at which endpoints were replaced all the time, if there was one.
pub(super) fn churn(text: &mut String, report: &Report) {
    for size in &report.sizes {
        let measured: Vec<_> = size.figures.iter().filter_map(|f| Some((f.kind, f.churn.as_ref()?))).collect();
        if measured.is_empty() {
            continue;
        }
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header([
            "",
            "endpoints replaced per second",
            "proxy told per second",
            "connections",
            "failed",
            "to an endpoint gone for over 100 ms",
            "latest, ms",
        ]);
        for (kind, churn) in measured {
            table.add_row([
                kind.name().to_owned(),
                format!("{:.0}", churn.replaced_per_second),
                format!("{:.0}", churn.told_per_second),
                churn.connections.to_string(),
                churn.failed.to_string(),
                format!("{} ({:.2} %)", churn.stale, 100.0 * churn.stale as f64 / churn.connections.max(1) as f64),
                format!("{:.0}", churn.latest_milliseconds),
            ]);
        }
        let services = thousands(size.services);
        // Writing into a String does not fail.
        let _ = writeln!(
            text,
            "### Churn\n\nAmong {services} services, the first one's endpoints are replaced all the time while a client \
             connects to it without a pause. A rival is told of the newest state as soon as it is done with the one before. \
             Endpoints that are gone still answer here, and say who they are; where pods really end, the connections in \
             the last column but one would fail.\n\n{table}\n"
        );
    }
}
