//! The agent's binary: logging, and the verb on the command line.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        // What notify says of watches that end with their directories concerns nobody; what kube_client says of failed
        // requests names nothing, and is said again with the object.
        EnvFilter::new("info,notify=error,kube_client=off")
    });
    // Standard output belongs to the verbs that print.
    let logging = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    logging.with_ansi(io::stderr().is_terminal()).init();
    match millrace_agent::cli::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millrace-agent: {}", said_once(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, but for those that the message before them has said already.
fn said_once(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |said, cause| {
        let cause = cause.to_string();
        match said.as_str() {
            "" => cause,
            so_far if so_far.contains(&cause) => said,
            _ => format!("{said}: {cause}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("/etc: open failed: {source}; mend it")]
    struct Failed {
        source: io::Error,
    }

    #[test]
    fn a_cause_that_the_message_names_is_not_said_again() {
        let failed = || Failed { source: io::Error::from(io::ErrorKind::NotFound) };
        assert_eq!(said_once(&failed().into()), "/etc: open failed: entity not found; mend it");
        let in_context = Err::<(), _>(failed()).context("cannot start").unwrap_err();
        assert_eq!(said_once(&in_context), "cannot start: /etc: open failed: entity not found; mend it");
    }
}
