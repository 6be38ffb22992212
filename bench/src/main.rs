//! `cargo xtask bench`: figures as ratios to the direct path, measured in one run.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use anyhow::Result;
use clap::Parser;
use millrace_bench::{
    packets,
    probe::{
        self,
        client::{self, Operation, Target, orders},
        count, server,
    },
    report, rivals, scale, services, topology,
};
use millrace_tests::interrupt;
use nix::unistd::Pid;

#[derive(Parser)]
#[command(name = "millrace-bench", about, version)]
enum Verb {
    /// What N services cost with millrace and with its rivals: traffic, programming, one change, memory.
    Services(services::Options),
    /// What the life of a large cluster costs a node: a simulated one's events in the agent's pipeline.
    Scale(scale::Options),
    /// What one packet costs in the programs on an uplink, by the number of services: nanoseconds.
    Packets(packets::Options),
    /// Show a run again: writes the page and the plots from its figures.
    Report {
        /// `services.json` of a run.
        figures: PathBuf,
        /// Where `benchmarks.md` goes, with a directory `benchmarks` beside it.
        #[arg(long, default_value = "target/bench")]
        out: PathBuf,
    },
    /// Inside a pod: accept TCP connections, echo UDP datagrams.
    #[command(hide = true)]
    Serve {
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// Addresses that echo UDP, several times.
        #[arg(long = "address")]
        addresses: Vec<IpAddr>,
        /// Runs on this processor only.
        #[arg(long)]
        cpu: Option<usize>,
        /// Runs before all other processes.
        #[arg(long)]
        preferred: bool,
    },
    /// Inside a pod: measure targets as standard input says, a line of JSON for each order and each answer.
    #[command(hide = true)]
    Obey {
        /// Runs on this processor only.
        #[arg(long)]
        cpu: Option<usize>,
        /// Runs before all other processes.
        #[arg(long)]
        preferred: bool,
        /// The server's process, whose processor time counts too.
        #[arg(long)]
        server: i32,
        /// LABEL=address:port[,address:port...], several times.
        #[arg(long = "target", required = true)]
        targets: Vec<Target>,
    },
    /// Inside a pod: measure targets in turn; nanoseconds of every operation as JSON on standard output.
    #[command(hide = true)]
    Measure {
        #[arg(long, value_enum, default_value = "connect")]
        operation: Operation,
        #[arg(long, default_value_t = 2000)]
        rounds: u32,
        /// Runs on this processor only.
        #[arg(long)]
        cpu: Option<usize>,
        /// LABEL=address:port[,address:port...], several times.
        #[arg(long = "target", required = true)]
        targets: Vec<Target>,
    },
    /// In a rival's namespace: write what `ipvsadm --restore` reads to IPVS, by one socket; nanoseconds of the kernel on
    /// standard output.
    #[command(hide = true)]
    IpvsRestore,
    /// Inside a pod: whole connections to one target; nanoseconds from each to the next as JSON on standard output.
    #[command(hide = true)]
    Count {
        #[arg(long)]
        connections: u32,
        /// address:port
        target: SocketAddr,
    },
}

fn main() -> Result<()> {
    match Verb::parse() {
        Verb::Services(options) => {
            // Namespaces, cgroups and pins are left behind by a process that just ends.
            interrupt::listen()?;
            probe::prefer()?;
            topology::stand_aside()?;
            let report = services::run(&options)?;
            report::write(&report, &options.out)?;
            println!("{}", report::markdown::tables(&report));
        }
        Verb::Scale(options) => {
            interrupt::listen()?;
            let figures = scale::run(&options)?;
            scale::write(&figures, &options)?;
            println!("{}", scale::table(&figures));
        }
        Verb::Packets(options) => {
            interrupt::listen()?;
            let figures = packets::run(&options)?;
            packets::write(&figures, &options)?;
            println!("{}", packets::table(&figures));
        }
        Verb::Report { figures, out } => report::write(&report::read(&figures)?, &out)?,
        Verb::Serve { port, addresses, cpu, preferred } => {
            cpu.map_or(Ok(()), probe::pin)?;
            if preferred {
                probe::insist()?;
            }
            server::run(port, &addresses)?;
        }
        Verb::Obey { cpu, preferred, server, targets } => {
            cpu.map_or(Ok(()), probe::pin)?;
            if preferred {
                probe::insist()?;
            }
            orders::obey(&targets, Pid::from_raw(server), std::io::stdin().lock(), std::io::stdout().lock())?;
        }
        Verb::Measure { operation, rounds, cpu, targets } => {
            cpu.map_or(Ok(()), probe::pin)?;
            println!("{}", serde_json::to_string(&client::run(operation, &targets, rounds)?)?);
        }
        Verb::IpvsRestore => println!("{}", rivals::ipvs::restore(std::io::stdin().lock())?.as_nanos()),
        Verb::Count { connections, target } => {
            println!("{}", serde_json::to_string(&count::run(target, connections)?)?);
        }
    }
    Ok(())
}
