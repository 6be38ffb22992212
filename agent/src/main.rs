//! The agent's binary: logging, and the verb on the command line.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Standard output belongs to the verbs that print.
    let logging = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    logging.with_ansi(io::stderr().is_terminal()).init();
    match millrace_agent::cli::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millrace-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}
