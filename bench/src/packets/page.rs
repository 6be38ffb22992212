//! The figures as tables, as a page and as plots. Pure.

use std::fmt::Write;

use anyhow::Result;
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use plotters::style::RGBColor;

use super::{Case, Choice, Figures, Place, Row, Step};
use crate::{
    report::{
        bars::Bar,
        markdown::{held_against, thousands},
        plots::{Line, drawn},
    },
    stats::Spread,
};

const METHOD: &str = "\
The programs are run by the kernel (BPF_PROG_TEST_RUN) on one processor, on packets of TCP without payload. Since a program \
rewrites its packet, a small program comes before it, which writes the next frame of a list over the packet and jumps; what \
it and the kernel's loop cost, measured in turn with a jump to an empty program, is taken off. After every series the \
counters must say that each packet came to the end that the line names, and no other, and the last packet is read: \
addresses, ports, checksums.

The maps are filled by the agent's own pipeline: services of type LoadBalancer, dual stack, each with three endpoints. The \
hot service is called by its node port and has one connection; of the others, called by their VIPs, each has one, and they \
come in random order. The tables of flows are alike at every size: as large, and as full, with strangers' flows where \
services are few. All sizes are in the kernel at once and take turns, so that a ratio is one of the same moment. A new \
flow finds its table full, as in a flood: it evicts another. What is sent on is not carried: no driver and no queue is in \
any figure, nor is the kernel's own part in a redirection. XDP asks for a flow's way once a second: among 100,000 services \
each flow is met less often than that here, and the kernel is asked for every packet.

Services at random cost more because every packet then meets memory that no packet before it has touched: what 100,000 \
services and as many flows take does not fit into a processor's own cache, nor their pages into its table of addresses. How much that is on this machine is measured beside it, by a program \
of a few instructions that looks the packet's entry up in the same table and does nothing else: whoever keeps flows in one of \
the kernel's hashes pays as much. A new flow finds its frontend, its service, its slots and its backend besides, and writes \
two entries, each over an old one that must be taken out of its place first.";

const LIMITS: &str = "\
## What these figures cannot show

- A rate of a network card: no driver, no queue, no interrupt and no wire is in any figure, nor what carries a packet on.
- What several processors do to each other: one runs, and its caches are its own. Counters and tables that many share cost \
more.
- Caches that the rest of a node empties: between two packets here there is nothing but a program.
- Packets with payload, UDP, and clients with many connections each.
- What a client waits for: the kernel's work before and after the programs is in the figures of \
`cargo xtask bench services --clients outside` and `--clients through`.
- Rivals: netfilter has no program that could be run alone.
";

impl Case {
    /// With program and family.
    #[must_use]
    pub fn title(self) -> String {
        let program = if self.xdp { "XDP" } else { "tc" };
        format!("{program}, {}: {}", if self.v6 { "IPv6" } else { "IPv4" }, self.name())
    }
}

/// For people: nanoseconds by the number of services.
#[must_use]
pub fn table(figures: &Figures) -> String {
    let cell = |row: &Row| brief(row.nanoseconds);
    by_size(figures, &[Choice::Hot, Choice::Random], cell)
}

/// The whole page.
#[must_use]
pub fn page(figures: &Figures) -> String {
    let mut text = String::new();
    // Writing into a String does not fail.
    let _ = write!(
        text,
        "# A packet\n\nOne run of `cargo xtask bench packets`, {}: nanoseconds that a packet of a client outside, or its \
         answer, spends in millrace's programs on an uplink. **Ratios count**: nanoseconds are this machine's. Figures \
         stand as median (smallest-largest) of {} rounds of {} packets, over {} copies of each program: where the kernel \
         puts the code is worth a tenth of its time.\n\n\
         {}\n\n\
         {METHOD}\n\n{}\n",
        figures.machine.time,
        figures.rounds,
        thousands(figures.packets),
        figures.loads,
        figures.machine.sentence(),
        held_against(&bars(figures)),
    );
    for (name, _) in FAMILIES {
        let _ = writeln!(text, "![Nanoseconds of a packet, by number of services](benchmarks/{name})\n");
    }
    let sections = [
        ("Nanoseconds", table(figures)),
        ("Millions of packets a second and processor, in the program alone", {
            by_size(figures, &[Choice::Hot, Choice::Random], |row| format!("{:.1}", 1e3 / row.nanoseconds.median))
        }),
        ("A hot service: as a ratio to the smallest number of services", {
            by_size(figures, &[Choice::Hot], |row| {
                format!("{:.3} ({:.3}-{:.3})", row.ratio.median, row.ratio.min, row.ratio.max)
            })
        }),
        ("Services at random: nanoseconds more than a hot one", {
            by_size(figures, &[Choice::Random], |row| brief(row.more))
        }),
        ("Of which one lookup of the flow's entry, by a program that does nothing else", {
            by_size(figures, &[Choice::Random], |row| row.lookup.map_or_else(|| "-".to_owned(), brief))
        }),
    ];
    for (heading, table) in sections {
        let _ = writeln!(text, "## {heading}\n\n{table}\n");
    }
    let _ = writeln!(text, "{LIMITS}");
    let _ = writeln!(
        text,
        "## Reproduce\n\n```console\n# cargo xtask bench {}\n```\n\nAs root. [Every figure as JSON](benchmarks/packets.json).",
        figures.arguments.join(" ")
    );
    text
}

fn brief(spread: Spread) -> String {
    format!("{:.0} ({:.0}-{:.0})", spread.median, spread.min, spread.max)
}

/// A line for each case and choice, a column for each size.
fn by_size(figures: &Figures, choices: &[Choice], cell: impl Fn(&Row) -> String) -> String {
    let mut table = Table::new();
    let sizes = figures.sizes.iter().map(|size| thousands(*size));
    table.load_style(ASCII_MARKDOWN).set_header(["packet", "services"].map(str::to_owned).into_iter().chain(sizes));
    let mut cases: Vec<Case> = figures.rows.iter().map(|row| row.case).collect();
    cases.dedup();
    for case in cases {
        for choice in choices {
            let rows = figures.rows.iter().filter(|row| row.case == case && row.choice == *choice);
            let name = if *choice == Choice::Hot { "hot" } else { "random" };
            table.add_row([case.title(), name.to_owned()].into_iter().chain(rows.map(&cell)));
        }
    }
    table.to_string()
}

/// What is promised, held against the run.
#[must_use]
fn bars(figures: &Figures) -> Vec<Bar> {
    let worst = |choice: Choice, xdp: bool, of: fn(&Row) -> f64| {
        let rows = figures.rows.iter().filter(move |row| row.choice == choice && row.case.xdp == xdp);
        rows.max_by(|a, b| of(a).total_cmp(&of(b))).map(|row| (of(row), row))
    };
    let at = |row: &Row| format!("{}, {} services", row.case.title(), thousands(row.services));
    let established = figures.rows.iter().filter(|row| {
        row.case.xdp
            && row.case.step == Step::Established
            && row.case.backends == Place::Elsewhere
            && row.choice == Choice::Hot
    });
    let slowest = established.max_by(|a, b| a.nanoseconds.median.total_cmp(&b.nanoseconds.median));
    let open = || "**not measured in this run**".to_owned();
    let judged = |xdp: bool, of: fn(&Row) -> Option<f64>| {
        let rows = figures.rows.iter().filter(move |row| row.choice == Choice::Random && row.case.xdp == xdp);
        let rows = rows.filter_map(|row| Some((of(row)?, row)));
        rows.max_by(|a, b| a.0.total_cmp(&b.0))
    };
    let mut bars = Vec::new();
    for (xdp, name) in [(false, "tc"), (true, "XDP")] {
        let deviation = worst(Choice::Hot, xdp, |row| (row.ratio.median - 1.0).abs());
        let over = judged(xdp, |row| Some(row.over?.median));
        let new = judged(xdp, |row| (row.case.step == Step::New).then_some(row.more.median));
        bars.push(Bar {
            promise: format!(
                "{name}: a packet of one hot service costs the same among any number of services, within 5 %"
            ),
            found: deviation.map_or_else(open, |(by, row)| format!("at most {:.1} % ({})", by * 100.0, at(row))),
            gaps: Vec::new(),
            met: deviation.map(|(by, _)| by <= 0.05),
        });
        bars.push(Bar {
            promise: format!(
                "{name}: packets of established flows of services at random cost at most 60 ns more, besides what one \
                 lookup of a flow among as many costs more"
            ),
            found: over.map_or_else(open, |(over, row)| {
                format!("at most {over:.0} ns ({}; {:.0} ns with the lookup)", at(row), row.more.median)
            }),
            gaps: Vec::new(),
            met: over.map(|(over, _)| over <= 60.0),
        });
        bars.push(Bar {
            promise: format!("{name}: new flows of services at random cost at most 60 ns more"),
            found: new.map_or_else(open, |(more, row)| format!("at most {more:.0} ns ({})", at(row))),
            gaps: Vec::new(),
            met: new.map(|(more, _)| more <= 60.0),
        });
    }
    bars.push(Bar {
        promise: "a packet of an established flow takes XDP at most 110 ns".to_owned(),
        found: slowest.map_or_else(open, |row| format!("at most {} ns ({})", brief(row.nanoseconds), at(row))),
        gaps: Vec::new(),
        met: slowest.map(|row| row.nanoseconds.median <= 110.0),
    });
    bars
}

/// File and IPv6.
const FAMILIES: [(&str, bool); 2] = [("packets-v4.svg", false), ("packets-v6.svg", true)];

/// File name and content of each.
///
/// # Errors
/// What the plotting library says.
pub(super) fn plots(figures: &Figures) -> Result<Vec<(&'static str, String)>> {
    let mut plots = Vec::new();
    for (name, v6) in FAMILIES {
        let lines = lines(figures, v6);
        // Of a run that measured nothing of it there is no plot.
        if !lines.is_empty() {
            let title = format!("nanoseconds of a packet, {}, backend elsewhere", if v6 { "IPv6" } else { "IPv4" });
            plots.push((name, drawn(&title, &lines)?));
        }
    }
    Ok(plots)
}

fn lines(figures: &Figures, v6: bool) -> Vec<Line> {
    let looks = [
        (true, Step::Established, "XDP, established", RGBColor(0x1a, 0x9a, 0x8a)),
        (true, Step::New, "XDP, new flow", RGBColor(0x5a, 0xb0, 0x3c)),
        (false, Step::Established, "tc, established", RGBColor(0xd9, 0x5f, 0x43)),
        (false, Step::New, "tc, new flow", RGBColor(0xd6, 0x8a, 0x1f)),
    ];
    let mut lines = Vec::new();
    for (xdp, step, name, colour) in looks {
        for (choice, dashed, which) in [(Choice::Hot, false, ""), (Choice::Random, true, ", random services")] {
            let case = Case { xdp, v6, backends: Place::Elsewhere, step };
            let rows = figures.rows.iter().filter(|row| row.case == case && row.choice == choice);
            let points: Vec<_> = rows.map(|row| (f64::from(row.services), row.nanoseconds.median)).collect();
            if !points.is_empty() {
                lines.push(Line { name: format!("{name}{which}"), colour, width: 2, dashed, points });
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    /// Of one case, hot among 1 and 10,000 services and random among 10,000.
    fn figures(case: Case, hot: [f64; 2], more: f64, lookup: Option<f64>) -> Figures {
        let exactly = |value| Spread { median: value, min: value, max: value };
        let row = |services, choice, nanoseconds: f64, more: f64| Row {
            case,
            services,
            choice,
            nanoseconds: exactly(nanoseconds),
            ratio: exactly(nanoseconds / hot[0]),
            more: exactly(more),
            lookup: lookup.map(exactly),
            over: lookup.map(|lookup| exactly(more - lookup)),
        };
        let rows = vec![
            row(1, Choice::Hot, hot[0], 0.0),
            row(10_000, Choice::Hot, hot[1], 0.0),
            row(10_000, Choice::Random, hot[1] + more, more),
        ];
        let (arguments, machine) = (Vec::new(), Machine::default());
        Figures { arguments, machine, rounds: 1, loads: 1, packets: 1, sizes: vec![1, 10_000], rows }
    }

    fn met(figures: &Figures, words: &str) -> Option<bool> {
        bars(figures).into_iter().find(|bar| bar.promise.contains(words)).unwrap().met
    }

    const ESTABLISHED: Case = Case { xdp: true, v6: false, backends: Place::Elsewhere, step: Step::Established };
    const NEW: Case = Case { xdp: false, step: Step::New, ..ESTABLISHED };

    #[test]
    fn a_hot_services_packet_may_cost_five_percent_more_or_less_and_no_other() {
        for (among_many, is_met) in [(104.0, true), (96.0, true), (106.0, false), (94.0, false)] {
            let figures = figures(ESTABLISHED, [100.0, among_many], 0.0, Some(0.0));
            assert_eq!(met(&figures, "XDP: a packet of one hot service"), Some(is_met), "{among_many}");
            assert_eq!(met(&figures, "tc: a packet of one hot service"), None, "nothing of tc was measured");
        }
    }

    #[test]
    fn a_random_services_packet_may_cost_sixty_nanoseconds_more_than_its_lookup_does() {
        for (more, lookup, is_met) in [(200.0, 145.0, true), (200.0, 130.0, false)] {
            let figures = figures(ESTABLISHED, [100.0, 100.0], more, Some(lookup));
            assert_eq!(met(&figures, "XDP: packets of established flows"), Some(is_met), "{lookup}");
        }
        for (more, is_met) in [(59.0, true), (61.0, false)] {
            assert_eq!(met(&figures(NEW, [1500.0, 1500.0], more, None), "tc: new flows"), Some(is_met), "{more}");
        }
    }

    #[test]
    fn a_known_flow_may_take_what_it_takes_katran() {
        for (slowest, is_met) in [(110.0, true), (111.0, false)] {
            let figures = figures(ESTABLISHED, [108.0, slowest], 0.0, Some(0.0));
            assert_eq!(met(&figures, "takes XDP at most 110 ns"), Some(is_met), "{slowest}");
        }
    }
}
