//! `cargo xtask bench`: figures as ratios to the direct path, measured in one run.

use std::net::IpAddr;

use anyhow::Result;
use clap::Parser;
use millrace_bench::{
    probe::{
        self,
        client::{self, Operation, Target},
        server,
    },
    services,
};
use millrace_tests::interrupt;

#[derive(Parser)]
#[command(name = "millrace-bench", about, version)]
enum Verb {
    /// What N services cost: connections, datagrams, programming, one change, memory.
    Services(services::Options),
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
}

fn main() -> Result<()> {
    match Verb::parse() {
        Verb::Services(options) => {
            // Namespaces, cgroups and pins are left behind by a process that just ends.
            interrupt::listen()?;
            println!("{}", services::table(&services::run(&options)?));
        }
        Verb::Serve { port, addresses, cpu } => {
            cpu.map_or(Ok(()), probe::pin)?;
            server::run(port, &addresses)?;
        }
        Verb::Measure { operation, rounds, cpu, targets } => {
            cpu.map_or(Ok(()), probe::pin)?;
            println!("{}", serde_json::to_string(&client::run(operation, &targets, rounds)?)?);
        }
    }
    Ok(())
}
