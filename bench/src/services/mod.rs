//! `bench services`: what a node pays for N services, from one to a hundred thousand, with millrace and with its rivals.
//!
//! At each size all contestants stand side by side, each on a node of its own. `entrants` are they, `stage` is one of
//! them, `programming` what it costs to tell it of services, `traffic` what clients see, in turns of milliseconds (`turns`),
//! `flood` how many datagrams arrive where they come without a pause, `churn` who is misled while endpoints come and go.

mod churn;
mod entrants;
mod flood;
mod programming;
mod stage;
mod traffic;
mod turns;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use millrace_tests::interrupt;

use crate::{
    cluster::{Clients, Cluster, Families, SIZES},
    contestants::{Kind, Tooling},
    machine::Machine,
    report::{Figures, Participant, Report, Size, markdown::thousands},
};
use entrants::Entrants;
use stage::{Entry, Stage};

/// What the command line asks for.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Numbers of services, with 10 endpoints each in every family.
    #[arg(long, value_delimiter = ',', default_values_t = SIZES)]
    pub sizes: Vec<u32>,
    /// Who is compared; the direct path always is. By default all that serve these clients in a way of their own.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub rivals: Vec<Kind>,
    /// Address families of the services.
    #[arg(long, value_enum, default_value = "4")]
    pub families: Families,
    /// Who calls the services, and where their endpoints are.
    #[arg(long, value_enum, default_value = "pods")]
    pub clients: Clients,
    /// Repetitions of every traffic figure; the report gives their median and extremes.
    #[arg(long, default_value_t = 5)]
    pub runs: u32,
    /// Operations of each destination in one run.
    #[arg(long, default_value_t = 500)]
    pub rounds: u32,
    /// How often all services are programmed, as long as it is quick; the report gives the median and the extremes.
    #[arg(long, default_value_t = 3)]
    pub times: u32,
    /// Changed endpoints that are timed with each contestant, as far as 5 s suffice for them.
    #[arg(long, default_value_t = 300)]
    pub changes: u32,
    /// The size at which endpoints are replaced 100 times a second under load; it must be among the sizes. 0: none.
    #[arg(long, default_value_t = 1000)]
    pub churn: u32,
    /// Seconds of that, with each contestant.
    #[arg(long, default_value_t = 5)]
    pub churn_seconds: u64,
    /// Seconds after which a rival's command is ended; the rival is then left out of larger sizes.
    #[arg(long, default_value_t = 120)]
    pub limit: u64,
    /// Sizes above this one are measured for millrace only.
    #[arg(long, default_value_t = 30_000)]
    pub rivals_up_to: u32,
    /// A Debian release's iptables and nft, unpacked; by default those that are installed.
    #[arg(long, env = "MILLRACE_RIVALS")]
    pub tools: Option<PathBuf>,
    /// Where the page goes (`benchmarks.md`), with a directory beside it.
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,
}

impl Options {
    fn tooling(&self) -> Tooling {
        Tooling { limit: Duration::from_secs(self.limit), release: self.tools.clone() }
    }
}

/// Measures every size, one after the other.
///
/// # Errors
/// Nobody who was asked for serves these clients, a contestant does not do what it should, a tool or a privilege is missing,
/// or the user wants the end.
pub fn run(options: &Options) -> Result<Report> {
    let entrants = Entrants::of(&options.rivals, options.clients)?;
    for (kind, why) in &entrants.left_out {
        eprintln!("bench: {} is not measured: {why}", kind.name());
    }
    if let Some(why) = no_churn(options) {
        eprintln!("bench: churn is not measured: {why}");
    }
    let mut report = Report {
        arguments: std::env::args().skip(1).collect(),
        machine: Machine::look(),
        families: options.families,
        clients: options.clients,
        runs: options.runs,
        rounds: options.rounds,
        limit_seconds: options.limit as f64,
        participants: entrants.absent(),
        sizes: Vec::new(),
    };
    let mut slow = BTreeMap::new();
    for &services in &options.sizes {
        let cluster = Cluster { services: services.max(1), families: options.families, clients: options.clients };
        let start = std::time::Instant::now();
        let measured = measure(cluster, options, &entrants, &mut slow, &mut report.participants);
        report.sizes.push(measured.with_context(|| format!("{services} services"))?);
        eprintln!("bench:   measured in {:.0} s", start.elapsed().as_secs_f64());
    }
    report.participants.sort_by_key(|participant| participant.kind);
    report.machine.finish();
    Ok(report)
}

/// `slow`: the size at which a rival was given up.
fn measure(
    cluster: Cluster,
    options: &Options,
    entrants: &Entrants,
    slow: &mut BTreeMap<Kind, u32>,
    participants: &mut Vec<Participant>,
) -> Result<Size> {
    eprintln!("bench: {} services x {} endpoints", cluster.services, crate::cluster::ENDPOINTS);
    let (mut stages, mut skipped) = (Vec::new(), Vec::new());
    for &kind in &entrants.kinds {
        interrupt::check()?;
        if let Some(why) = reason_to_skip(kind, cluster.services, options, slow) {
            skipped.push(Figures::skipped(kind, why));
            continue;
        }
        let entry = Stage::enter(kind, cluster, &options.tooling()).with_context(|| kind.name())?;
        if !participants.iter().any(|participant| participant.kind == kind) {
            participants.push(entry.participant());
        }
        match entry {
            Entry::Stage(mut stage) => {
                match programming::all(&mut stage, options.times).with_context(|| kind.name())? {
                    programming::Outcome::Done => stages.push(stage),
                    programming::Outcome::TooSlow(why) => {
                        slow.insert(kind, cluster.services);
                        skipped.push(Figures { given_up: true, ..Figures::skipped(kind, why) });
                    }
                }
            }
            Entry::Absent(participant) => {
                skipped.push(Figures::skipped(kind, participant.absent.unwrap_or_default()));
            }
        }
    }
    programming::changes(&mut stages, options.changes)?;
    traffic::measure(&mut stages, options.runs, options.rounds)?;
    flood::measure(&mut stages, options.runs, options.rounds)?;
    for stage in &stages {
        stage.contestant.check().with_context(|| stage.figures.kind.name())?;
    }
    if cluster.services == options.churn && no_churn(options).is_none() {
        churn::measure(&mut stages, options.churn_seconds)?;
    }
    let measured = stages.into_iter().map(|stage| stage.figures);
    let mut figures: Vec<_> = measured.chain(skipped).collect();
    figures.sort_by_key(|figures| figures.kind);
    Ok(Size { services: cluster.services, figures })
}

/// Why no endpoints are replaced under load.
fn no_churn(options: &Options) -> Option<String> {
    if options.clients != Clients::Pods {
        return Some("it is a question of when the maps change, and for clients outside they are the same".to_owned());
    }
    let missing = options.churn > 0 && !options.sizes.contains(&options.churn);
    missing.then(|| format!("--churn {} is none of --sizes", options.churn))
}

fn reason_to_skip(kind: Kind, services: u32, options: &Options, slow: &BTreeMap<Kind, u32>) -> Option<String> {
    if !kind.is_rival() {
        return None;
    }
    if services > options.rivals_up_to {
        return Some(format!("not tried above {}", thousands(options.rivals_up_to)));
    }
    slow.get(&kind).map(|at| format!("not tried: given up at {}", thousands(*at)))
}
