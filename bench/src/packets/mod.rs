//! `bench packets`: what one packet costs in a program, in nanoseconds, by the number of services.
//!
//! All sizes are in the kernel at once, each with programs and maps of its own, and take turns: a ratio is one of the same
//! milliseconds.

mod case;
mod fill;
mod flows;
mod page;
mod services;
mod stage;

use std::{collections::HashSet, os::fd::AsFd, path::PathBuf};

use anyhow::{Context, Result, ensure};
use millrace_common::verdict::Verdict;
use millrace_tests::{
    interrupt,
    repeat::{Frames, Repeated, Series},
};
use serde::{Deserialize, Serialize};

pub use self::{
    case::{Case, Choice, Step},
    page::{page, table},
    stage::Place,
};
use self::{
    flows::{Flow, establish},
    stage::{Programs, Stage},
};
use crate::{
    machine::Machine,
    probe,
    report::files,
    stats::{Spread, spread},
};

/// What the command line asks for.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Numbers of services; ratios are to the first.
    #[arg(long, value_delimiter = ',', default_value = "1,1000,10000,100000")]
    pub sizes: Vec<u32>,
    /// Rounds of each figure; in each, all sizes are measured in turn.
    #[arg(long, default_value_t = 16)]
    pub rounds: usize,
    /// Copies of the programs, which take turns: where the kernel puts the code is worth a tenth of its time.
    #[arg(long, default_value_t = 4)]
    pub loads: usize,
    /// Packets of each size in a round.
    #[arg(long, default_value_t = 50_000)]
    pub packets: u32,
    /// Only cases whose name contains this.
    #[arg(long)]
    pub only: Option<String>,
    /// Where `benchmarks-packets.md` goes, with a directory `benchmarks` beside it.
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Its arguments, as typed.
    pub arguments: Vec<String>,
    pub machine: Machine,
    pub rounds: usize,
    pub loads: usize,
    pub packets: u32,
    pub sizes: Vec<u32>,
    pub rows: Vec<Row>,
}

/// One kind of packet, with one number of services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub case: Case,
    pub services: u32,
    pub choice: Choice,
    /// Of the program alone: what restores the packet before it is taken off.
    pub nanoseconds: Spread,
    /// To the hot service at the first size.
    pub ratio: Spread,
    /// Nanoseconds more than the hot service at the same size.
    pub more: Spread,
    /// The same of one lookup of the flow's entry and nothing else: what the memory of this machine asks of whoever keeps
    /// as many flows in one of the kernel's hashes.
    #[serde(default)]
    pub lookup: Option<Spread>,
    /// What is left of `more` without that.
    #[serde(default)]
    pub over: Option<Spread>,
}

/// Measures every case.
///
/// # Errors
/// Not root, what the kernel refused, or a packet that did not come to the end that its case is about.
pub fn run(options: &Options) -> Result<Figures> {
    let Options { sizes, rounds, loads, .. } = options;
    ensure!(*rounds > 0 && *loads > 0 && !sizes.is_empty(), "nothing to measure: give --sizes, --rounds and --loads");
    let mut machine = Machine::look();
    let stage = Stage::create()?;
    let rows = stage.inside(|| {
        let mut sizes = Vec::new();
        // The hot service has a flow, and every service has.
        let flows = 1 + options.sizes.iter().max().copied().unwrap_or_default();
        for &services in &options.sizes {
            eprintln!("bench: {services} services");
            let programs = Programs::load(services, flows, options.loads)?;
            fill::with_strangers(&programs, 2 * (flows - 1 - services))?;
            sizes.push(programs);
        }
        measure(&stage, &sizes, options)
    })??;
    machine.finish();
    Ok(Figures {
        arguments: std::env::args().skip(1).collect(),
        machine,
        rounds: options.rounds,
        loads: options.loads,
        packets: options.packets,
        sizes: options.sizes.clone(),
        rows,
    })
}

/// Writes the figures, the page and its plots.
///
/// # Errors
/// Names the file that cannot be written.
pub fn write(figures: &Figures, options: &Options) -> Result<()> {
    let beside = options.out.join("benchmarks");
    let mut files = vec![
        (beside.join("packets.json"), serde_json::to_string(figures)? + "\n"),
        (options.out.join("benchmarks-packets.md"), page(figures)),
    ];
    files.extend(page::plots(figures)?.into_iter().map(|(name, plot)| (beside.join(name), plot)));
    files::put(files)
}

/// The connections through one size's programs that are established.
struct Established {
    v6: bool,
    choice: Choice,
    flows: Vec<Flow>,
}

const CHOICES: [Choice; 2] = [Choice::Hot, Choice::Random];

fn measure(stage: &Stage, sizes: &[Programs], options: &Options) -> Result<Vec<Row>> {
    // One processor, and nobody else on it while a series runs.
    probe::pin(0)?;
    probe::insist()?;
    stage.backends_are(Place::Elsewhere)?;
    let mut established = Vec::new();
    for programs in sizes {
        let mut of_size = Vec::new();
        for (v6, choice) in [(false, CHOICES[0]), (false, CHOICES[1]), (true, CHOICES[0]), (true, CHOICES[1])] {
            of_size.push(Established { v6, choice, flows: establish(stage, programs, choice, v6)? });
        }
        established.push(of_size);
    }
    let mut rows = Vec::new();
    for place in [Place::Elsewhere, Place::Here] {
        stage.backends_are(place)?;
        for case in Case::all(place) {
            if options.only.as_ref().is_some_and(|only| !case.title().contains(only)) {
                continue;
            }
            eprintln!("bench: {}", case.title());
            rows.extend(rows_of(stage, sizes, &established, case, options).with_context(|| case.title())?);
        }
    }
    Ok(rows)
}

/// One size and choice of a case.
struct Subject<'a> {
    programs: &'a Programs,
    choice: Choice,
    flows: &'a [Flow],
    kernel: Frames,
    frames: HashSet<Vec<u8>>,
}

fn rows_of(
    stage: &Stage,
    sizes: &[Programs],
    established: &[Vec<Established>],
    case: Case,
    options: &Options,
) -> Result<Vec<Row>> {
    let mut subjects = Vec::new();
    for (programs, established) in sizes.iter().zip(established) {
        for of in established.iter().filter(|of| of.v6 == case.v6) {
            let frames = flows::frames(case, programs.services, of.choice, &of.flows);
            let kernel = Frames::new(&frames)?;
            let frames = frames.into_iter().collect();
            subjects.push(Subject { programs, choice: of.choice, flows: &of.flows, kernel, frames });
        }
    }
    // By subject and load.
    let (mut series, mut lookups) = (Vec::new(), Vec::new());
    for subject in &subjects {
        let programs = subject.programs.descriptors(case.hook(), case.program())?;
        // What restores packets is a copy of its own, too, with and without a program behind it.
        let pair = |program| {
            let full = Repeated::new(program, &subject.kernel, case.hook())?;
            Ok((Repeated::idle(&subject.kernel, case.hook())?, full))
        };
        let lookup = case.entry().map(|(map, key, value)| {
            let map = subject.programs.descriptor(map)?;
            Repeated::looking(&subject.kernel, case.hook(), map.as_fd(), &key, value)
        });
        lookups.push(lookup.transpose()?);
        series.push(programs.into_iter().map(pair).collect::<Result<Vec<_>>>()?);
    }
    // Nanoseconds, by subject and round.
    let mut net = vec![Vec::new(); subjects.len()];
    let mut looked_up = vec![Vec::new(); subjects.len()];
    let device = if case.program() == "mr_from_pod" { stage.veth } else { stage.uplink };
    for round in 0..options.rounds + options.loads {
        // The first of each load fill caches and tables.
        let warm = round >= options.loads;
        interrupt::check()?;
        for (i, subject) in subjects.iter().enumerate() {
            let series = &series[i];
            let (idle, full) = &series[round % options.loads];
            let packets = if warm { options.packets } else { options.packets.max(subject.kernel.count()) };
            let harness = idle.run(device, packets)?;
            let before = subject.programs.verdicts()?;
            let last = full.run(device, packets)?;
            expect(case, &before, &subject.programs.verdicts()?, packets)?;
            flows::check(case, subject.flows, &subject.frames, &last)?;
            let lookup = lookups[i].as_ref().map(|lookup| lookup.run(device, packets)).transpose()?;
            ensure!(lookup.as_ref().is_none_or(|series| series.returned == 0), "a flow has no entry under its key");
            if warm {
                let alone = |series: &Series| f64::from(series.nanoseconds) - f64::from(harness.nanoseconds);
                net[i].push(alone(&last));
                looked_up[i].extend(lookup.as_ref().map(alone));
            }
        }
    }
    Ok(rows(case, &subjects, &net, &looked_up))
}

/// Every packet was counted as what it is, and as nothing else.
fn expect(case: Case, before: &[(Verdict, u64)], after: &[(Verdict, u64)], packets: u32) -> Result<()> {
    let changed = before.iter().zip(after).filter(|(before, after)| before != after);
    let mut changed: Vec<(Verdict, u64)> = changed.map(|(before, after)| (after.0, after.1 - before.1)).collect();
    changed.sort_unstable();
    let expected: Vec<_> = case.counted().into_iter().map(|verdict| (verdict, u64::from(packets))).collect();
    ensure!(changed == expected, "{packets} packets were counted as {changed:?}, not as {expected:?}");
    Ok(())
}

fn rows(case: Case, subjects: &[Subject<'_>], net: &[Vec<f64>], looked_up: &[Vec<f64>]) -> Vec<Row> {
    let row = |(i, subject): (usize, &Subject<'_>)| {
        // Each size's hot service comes first.
        let hot = i - i % CHOICES.len();
        let more = |of: &[Vec<f64>]| -> Vec<f64> { of[i].iter().zip(&of[hot]).map(|(one, hot)| one - hot).collect() };
        let (more, lookup) = (more(net), more(looked_up));
        let over: Vec<f64> = more.iter().zip(&lookup).map(|(more, lookup)| more - lookup).collect();
        let measured = |nanoseconds: &[f64]| (!nanoseconds.is_empty()).then(|| spread(nanoseconds));
        Row {
            case,
            services: subject.programs.services,
            choice: subject.choice,
            nanoseconds: spread(&net[i]),
            ratio: spread(&net[i].iter().zip(&net[0]).map(|(one, first)| one / first).collect::<Vec<_>>()),
            more: spread(&more),
            lookup: measured(&lookup),
            over: measured(&over),
        }
    };
    subjects.iter().enumerate().map(row).collect()
}
