//! The command line: `run` is the agent, the other verbs read the pinned maps (also while no agent runs) or remove
//! them. The help texts are the manual.

mod backends;
mod cleanup;
mod conntrack;
mod environment;
mod output;
mod run;
mod services;
mod stats;
mod status;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use self::output::Format;
use crate::datapath::Pins;

/// A Kubernetes service proxy in eBPF: connections to ClusterIPs reach a pod at the cost of the direct path.
///
/// The agent keeps eBPF maps in step with the cluster's Services and EndpointSlices. Programs and maps are pinned: they
/// go on working while the agent restarts, and until `millrace-agent cleanup`.
///
/// Every option can also be set in the environment, as MILLRACE_ and its name (--node-name is MILLRACE_NODE_NAME);
/// options that may be given more than once are separated by commas there. A variable that is empty says nothing. RUST_LOG sets what is logged (default: info).
#[derive(Parser)]
#[command(name = "millrace-agent", version, max_term_width = 100, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Run(Box<run::Options>),
    /// Shows what is attached and how full the maps are
    Status(Reading),
    /// Lists service ports: frontends, kind, policy, session affinity and number of endpoints
    Services(Reading),
    /// Lists endpoints: id, address, the service port they belong to, whether they serve, and their epoch
    Backends(Reading),
    /// Lists the flows that the per-packet path tracks, in both directions
    Conntrack(Reading),
    /// Counts every way in which a packet or a socket call ended, summed over all CPUs
    Stats(Reading),
    Cleanup(cleanup::Options),
}

/// Where the maps are, and how to print them.
#[derive(Args)]
struct Reading {
    #[command(flatten)]
    place: Place,
    /// How to print: a table for people, or JSON for programs
    #[arg(short, long, env = "MILLRACE_OUTPUT", value_enum, default_value_t)]
    output: Format,
}

#[derive(Args)]
struct Place {
    /// Directory on a BPF file system where the agent pins maps and links; one per agent
    #[arg(long, env = "MILLRACE_BPFFS", value_name = "PATH", default_value = "/sys/fs/bpf/millrace")]
    bpffs: PathBuf,
}

impl Place {
    fn pins(&self) -> Pins {
        Pins::at(&self.bpffs)
    }
}

impl Reading {
    /// The pins, once it is clear that there is something of this layout to read.
    fn pins(&self) -> Result<Pins> {
        let pins = self.place.pins();
        pins.check_readable()?;
        Ok(pins)
    }
}

/// Parses the process's arguments and does what they say.
///
/// # Errors
/// Any, with the object and the remedy; usage errors end the process with status 2.
pub fn main() -> Result<()> {
    environment::forget_empty();
    match Cli::parse().verb {
        Verb::Run(options) => run::run(*options),
        Verb::Status(reading) => status::print(&reading),
        Verb::Services(reading) => services::print(&reading),
        Verb::Backends(reading) => backends::print(&reading),
        Verb::Conntrack(reading) => conntrack::print(&reading),
        Verb::Stats(reading) => stats::print(&reading),
        Verb::Cleanup(options) => cleanup::run(&options),
    }
}
