//! Runs the host's tools.

use std::{
    io::{self, Write},
    process::{Command, ExitStatus, Output, Stdio},
    thread,
};

use super::Step;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{program} cannot be run")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("{command} failed ({status}): {stderr}; run as root, in the host's network namespace")]
    Failed { command: String, status: ExitStatus, stderr: String },
    #[error("{program} printed JSON of another shape than expected: nothing was changed")]
    Unreadable {
        program: &'static str,
        #[source]
        source: serde_json::Error,
    },
}

/// How a tool answered a question.
pub(super) enum Answer {
    Said(String),
    NotInstalled,
    NotInKernel,
}

/// Asks a tool what is there.
pub(super) fn ask(program: &str, arguments: &[&str]) -> Result<Answer, Error> {
    let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let output = match run(program, &arguments, "") {
        Ok(output) => output,
        Err(Error::Start { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(Answer::NotInstalled);
        }
        Err(error) => return Err(error),
    };
    if output.status.success() {
        return Ok(Answer::Said(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    // EPROTONOSUPPORT and ENOPROTOOPT: that part of netfilter is neither built in nor a module.
    if ["Protocol not supported", "Protocol not available"].iter().any(|said| stderr.contains(said)) {
        return Ok(Answer::NotInKernel);
    }
    Err(failed(program, &arguments, &output))
}

/// Lets a tool do its step.
pub(super) fn act(step: &Step) -> Result<(), Error> {
    let output = run(&step.program, &step.arguments, &step.input)?;
    // `ipvsadm -R` says which lines failed, and by its status that all went well.
    let refused = step.program == "ipvsadm" && !output.stderr.is_empty();
    if output.status.success() && !refused { Ok(()) } else { Err(failed(&step.program, &step.arguments, &output)) }
}

fn run(program: &str, arguments: &[String], input: &str) -> Result<Output, Error> {
    let start = |source| Error::Start { program: program.to_owned(), source };
    let mut command = Command::new(program);
    // What a tool says of an error is read, so it must be in one language.
    command.args(arguments).env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(start)?;
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        // Beside the reading: both may be larger than a pipe. A tool that stops reading says why by its status.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    })
    .map_err(start)
}

fn failed(program: &str, arguments: &[String], output: &Output) -> Error {
    Error::Failed {
        command: std::iter::once(program).chain(arguments.iter().map(String::as_str)).collect::<Vec<_>>().join(" "),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    }
}
