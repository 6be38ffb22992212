//! `cargo xtask bench`: figures as ratios to the direct path, measured in one run.

use std::net::SocketAddr;

use anyhow::Result;
use clap::Parser;
use millrace_bench::probe::{
    client::{self, Operation},
    server,
};

#[derive(Parser)]
#[command(name = "millrace-bench", about, version)]
enum Verb {
    /// Inside a pod: accept TCP connections, echo UDP datagrams.
    #[command(hide = true)]
    Serve {
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Inside a pod: measure targets in turn; nanoseconds of every operation as JSON on standard output.
    #[command(hide = true)]
    Measure {
        #[arg(long, value_enum, default_value = "connect")]
        operation: Operation,
        #[arg(long, default_value_t = 2000)]
        rounds: u32,
        /// address:port, several times.
        #[arg(long = "target", required = true)]
        targets: Vec<SocketAddr>,
    },
}

fn main() -> Result<()> {
    match Verb::parse() {
        Verb::Serve { port } => server::run(port),
        Verb::Measure { operation, rounds, targets } => {
            let samples = client::run(operation, &targets, rounds)?;
            println!("{}", serde_json::to_string(&samples)?);
            Ok(())
        }
    }
}
