//! `cargo xtask demo`: two nodes in two zones, a shop of services, and what happens to requests when backends and
//! agents come and go. Everything is made on this machine and taken away at the end.

mod pod;
mod shop;
mod shopper;
mod show;
mod stage;
mod story;
mod tally;

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};
use console::style;
use millrace_bench::probe::client::{self, Operation, Target};
use millrace_tests::interrupt::{self, Interrupted};

use crate::{pod::Card, story::Story};

/// Two nodes in two zones, a shop of services, and millrace between them, in about a minute.
#[derive(Parser)]
#[command(name = "millrace-demo", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The shop: a file for each Service, with its EndpointSlices
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests"))]
    manifests: PathBuf,
    /// Watch requests for an N-th of the time; nothing else is left out
    #[arg(long, value_name = "N", default_value = "1")]
    pace: NonZeroU32,
}

#[derive(Subcommand)]
enum Verb {
    /// Inside a pod: serve
    #[command(hide = true)]
    Pod {
        #[arg(long)]
        name: String,
        #[arg(long)]
        zone: String,
        #[arg(long)]
        port: u16,
        #[arg(long)]
        udp: bool,
    },
    /// Inside a pod: ask every service in turn
    #[command(hide = true)]
    Shopper {
        /// JSON
        #[arg(long)]
        targets: String,
    },
    /// Inside a pod: measure connect() to each target in turn
    #[command(hide = true)]
    Latency {
        #[arg(long)]
        rounds: u32,
        #[arg(long = "target", required = true)]
        targets: Vec<SocketAddr>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.verb {
        None => tell(&arguments.manifests, arguments.pace),
        Some(verb) => run(verb),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() || is_interrupted() => {
            eprintln!("\ninterrupted; everything is taken down");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("\n{} {error:#}", style("failed:").red().bold());
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C in a terminal ends commands that were under way, too (`ip`, `tc`): their failure may be noticed before the
/// signal that caused it.
fn is_interrupted() -> bool {
    interrupt::pause(Duration::from_millis(100)).is_err()
}

fn tell(manifests: &std::path::Path, pace: NonZeroU32) -> Result<()> {
    interrupt::listen()?;
    let mut story = Story::begin(shop::read(manifests)?, pace)?;
    story.traffic()?;
    story.endpoints()?;
    story.kill()?;
    story.latency()?;
    story.end()
}

#[tokio::main(flavor = "current_thread")]
async fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Pod { name, zone, port, udp } => pod::serve(&Card { pod: name, zone }, port, udp).await,
        Verb::Shopper { targets } => shopper::shop(serde_json::from_str(&targets)?).await,
        Verb::Latency { rounds, targets } => {
            // The story asks for the figures by address.
            let targets: Vec<_> = targets
                .into_iter()
                .map(|address| Target { label: address.to_string(), addresses: vec![address] })
                .collect();
            println!("{}", serde_json::to_string(&client::run(Operation::Connect, &targets, rounds)?)?);
            Ok(())
        }
    }
}
