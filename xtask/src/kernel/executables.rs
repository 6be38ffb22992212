//! The test binaries that run in a virtual machine, and the agent that they start.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::command::{capture, cargo};

/// Test targets whose name begins so run under every kernel of the matrix.
const PREFIX: &str = "kernel_";

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Executables {
    /// Test binaries, by name.
    pub(crate) tests: Vec<(String, PathBuf)>,
    /// Programs that tests start: the agent, and helpers of the tests' crate.
    pub(crate) programs: Vec<PathBuf>,
}

/// Builds them as `cargo test` does, and asks cargo where they are.
pub(crate) fn build() -> Result<Executables> {
    let mut all = Executables::default();
    for verb in [["build", "--package=millrace-agent"].as_slice(), &["test", "--no-run", "--package=millrace-tests"]] {
        let mut command = cargo(verb[0]);
        command.args(&verb[1..]).args(["--locked", "--quiet", "--message-format=json-render-diagnostics"]);
        let found = parse(&capture(&mut command)?)?;
        all.tests.extend(found.tests);
        all.programs.extend(found.programs);
    }
    Ok(all)
}

/// Reads cargo's messages, one JSON object a line.
fn parse(messages: &str) -> Result<Executables> {
    let mut found = Executables::default();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).with_context(|| format!("cargo's message {line}"))?;
        let Some(path) = message["executable"].as_str().map(PathBuf::from) else { continue };
        let target = &message["target"];
        let name = target["name"].as_str().unwrap_or_default();
        if target["kind"][0] == "test" && name.starts_with(PREFIX) {
            found.tests.push((name.to_owned(), path));
        } else if target["kind"][0] == "bin" && message["profile"]["test"] == false {
            found.programs.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_for_the_matrix_are_told_from_others_and_from_the_programs_they_start() {
        let messages = [
            r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"kernel_boot"},"profile":{"test":true},"executable":"/t/kernel_boot-1"}"#,
            r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"conformance"},"profile":{"test":true},"executable":"/t/conformance-1"}"#,
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"millrace-agent"},"profile":{"test":false},"executable":"/t/millrace-agent"}"#,
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"millrace-agent"},"profile":{"test":true},"executable":"/t/millrace_agent-1"}"#,
            r#"{"reason":"build-finished","success":true}"#,
        ];
        let found = parse(&messages.join("\n")).expect("cargo's messages");
        assert_eq!(found.tests, [("kernel_boot".to_owned(), PathBuf::from("/t/kernel_boot-1"))]);
        assert_eq!(found.programs, [PathBuf::from("/t/millrace-agent")]);
    }
}
