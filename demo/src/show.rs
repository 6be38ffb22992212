//! What a person sees: headings, lines that move while requests flow, tables that stay. Plain text where standard
//! output is no terminal.

use std::{collections::BTreeMap, time::Duration};

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    shop::Entry,
    tally::{Reports, Row},
};

/// A chapter's title and what it is about.
pub(crate) fn heading(title: &str, about: &str) {
    println!("\n{}", style(title).bold().cyan());
    if !about.is_empty() {
        println!("{}", style(about).dim());
    }
}

/// A fact that holds.
pub(crate) fn fact(text: &str) {
    println!("  {} {text}", style("✓").green());
}

/// A line that moves while something takes its time.
pub(crate) fn progress(what: &'static str, counted: bool) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(counted.then_some(1), ProgressDrawTarget::stdout());
    let template =
        if counted { "  {spinner} {prefix} {bar:30} {pos}/{len} {msg}" } else { "  {spinner} {prefix} {msg}" };
    bar.set_style(template_style(template));
    bar.set_prefix(what);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn template_style(template: &str) -> ProgressStyle {
    // The templates are constants of this file: a broken one shows as the default style.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// One line for each service, renewed in place.
pub(crate) struct Live {
    all: MultiProgress,
    lines: BTreeMap<String, ProgressBar>,
}

impl Live {
    pub(crate) fn new(services: impl Iterator<Item = String>) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(5));
        let lines = services
            .map(|service| {
                let line = all.add(ProgressBar::new_spinner());
                line.set_style(template_style("  {prefix:16.bold} {msg}"));
                line.set_prefix(service.clone());
                (service, line)
            })
            .collect();
        Self { all, lines }
    }

    pub(crate) fn update(&self, rows: &BTreeMap<String, Row>) {
        for (service, line) in &self.lines {
            let row = rows.get(service).cloned().unwrap_or_default();
            line.set_message(format!("{:>7} {}", row.total() + row.refused, backends(service, &row)));
            line.tick();
        }
    }

    /// A line that stays, above those that move.
    pub(crate) fn say(&self, text: &str) {
        let line = format!("  {} {text}", style("•").yellow());
        if self.all.is_hidden() {
            println!("{line}");
        } else {
            // Only a closed terminal can refuse it.
            drop(self.all.println(line));
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        drop(self.all.clear());
    }
}

/// Requests, failures, zone and backends of each service.
pub(crate) fn table(entries: &[Entry], rows: &BTreeMap<String, Row>) {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["  service", "may use", "requests", "failed", "own zone", "answered by"]);
    for entry in entries {
        let row = rows.get(entry.name()).cloned().unwrap_or_default();
        let own_zone = if row.total() == 0 { "-".into() } else { format!("{}%", percent(row.in_zone, row.total())) };
        table.add_row([
            format!("  {}", entry.name()),
            entry.policy().to_owned(),
            (row.total() + row.refused).to_string(),
            failures(entry, &row).to_string(),
            own_zone,
            backends(entry.name(), &row),
        ]);
    }
    for column in [2, 3, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{table}");
}

/// A refusal is what a service without endpoints owes its clients; from any other it is a failure.
pub(crate) fn failures(entry: &Entry, row: &Row) -> u64 {
    row.failed + if entry.policy() == "no endpoints" { 0 } else { row.refused }
}

/// Answers by the zone of the client and the zone of the pod.
pub(crate) fn zones(before: &Reports, now: &Reports, zones: &BTreeMap<String, String>) {
    for zone in now.keys() {
        let from = |reports: &Reports| reports.get_key_value(zone).map(|(k, v)| (k.clone(), v.clone()));
        let one = |reports| from(reports).into_iter().collect::<Reports>();
        let rows = crate::tally::rows(&one(before), &one(now), zones);
        let (total, inside) = rows.values().fold((0, 0), |(t, i), row| (t + row.total(), i + row.in_zone));
        println!("  from {zone}: {inside} answers from its own zone, {} from the other", total - inside);
    }
}

/// Each pod's share, without the service's name in front.
fn backends(service: &str, row: &Row) -> String {
    if row.answered.is_empty() {
        return if row.refused > 0 { "refused at once".into() } else { String::new() };
    }
    let share = |(pod, answers): (&String, &u64)| {
        let short = pod.strip_prefix(service).map_or(pod.as_str(), |rest| rest.trim_start_matches('-'));
        format!("{short} {}%", percent(*answers, row.total()))
    };
    row.answered.iter().map(share).collect::<Vec<_>>().join("  ")
}

fn percent(part: u64, whole: u64) -> u64 {
    (part * 100 + whole / 2).checked_div(whole).unwrap_or(0)
}
