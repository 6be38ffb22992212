//! What runs inside the pods of the tests: see `millrace_tests::probe`.

use std::net::SocketAddr;

use anyhow::Result;
use clap::Parser;
use millrace_tests::probe::{self, Manner};

/// Servers that say who they are, clients that say who answered.
#[derive(Parser)]
enum Verb {
    /// Greets on TCP and UDP, IPv4 and IPv6, until killed.
    Serve {
        #[arg(long)]
        name: String,
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Connects (or sends a datagram) a number of times and prints what came of each, as one JSON array.
    Connect {
        #[arg(long, required = true)]
        to: Vec<SocketAddr>,
        #[arg(long, default_value_t = 1)]
        count: usize,
        #[command(flatten)]
        manner: Manner,
    },
    /// Goes on talking over one socket until standard input ends.
    Stream {
        #[arg(long)]
        to: SocketAddr,
        #[command(flatten)]
        manner: Manner,
    },
    /// Goes on connecting until standard input ends.
    Load {
        #[arg(long, required = true)]
        to: Vec<SocketAddr>,
        #[arg(long, default_value_t = 1)]
        workers: usize,
        #[command(flatten)]
        manner: Manner,
    },
}

fn main() -> Result<()> {
    match Verb::parse() {
        Verb::Serve { name, port } => probe::serve(&name, port)?,
        Verb::Connect { to, count, manner } => {
            println!("{}", serde_json::to_string(&probe::attempts(&to, count, &manner))?);
        }
        Verb::Stream { to, manner } => probe::stream(to, &manner)?,
        Verb::Load { to, workers, manner } => probe::load(&to, workers, &manner)?,
    }
    Ok(())
}
