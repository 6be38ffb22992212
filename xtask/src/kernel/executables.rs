//! The test binaries that run in a virtual machine, and the agent that they start.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Platform, arm64};
use crate::{
    command::{capture, cargo},
    test::TESTED,
};

/// Test targets whose name begins so run under every kernel of the matrix.
const PREFIX: &str = "kernel_";

/// One more, whose name is a promise: the tables of packet flow are what millrace is for.
const TABLES: &str = "tests/tests/conformance/main.rs";

/// The one that counts instructions, in a machine made for that.
pub(crate) const COUNTING: &str = "instructions";

/// What it starts in pods.
const PROBE: &str = "millrace-bench";

/// Programs that no test in a machine starts.
const HOST_ONLY: [&str; 2] = ["xtask", "millrace-demo"];

/// The benchmarks' rivals have tools that would have to be there for the architecture, too.
const WITHOUT_RIVALS: [&str; 5] = ["--package", "millrace-agent", "--package", "millrace-tests", "--locked"];

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Executables {
    /// Test binaries, by name.
    pub(crate) tests: Vec<(String, PathBuf)>,
    /// Programs that tests start: the agent, and what stands for a process in a pod.
    pub(crate) programs: Vec<PathBuf>,
}

impl Executables {
    /// What runs under every kernel.
    pub(crate) fn for_kernels(mut self) -> Self {
        self.tests.retain(|(name, _)| name != COUNTING);
        self
    }

    /// Leaves out all tests but those of these names; the names of what is left out.
    pub(crate) fn keep(&mut self, names: &[&str]) -> Vec<String> {
        let left = self.tests.extract_if(.., |(name, _)| !names.contains(&name.as_str()));
        left.map(|(name, _)| name).collect()
    }

    /// There is that binary, and each of these words is in the name of one of its tests: what is mistyped would leave tests out in
    /// silence.
    pub(crate) fn check(&self, name: &str, words: &str) -> Result<()> {
        let (_, path) =
            self.tests.iter().find(|(test, _)| test == name).with_context(|| format!("no test binary {name}"))?;
        for word in words.split_whitespace() {
            let listed = capture(Command::new(path).args(["--list", word]))?;
            if !listed.lines().any(|line| line.ends_with(": test")) {
                bail!("no test of {name} has {word} in its name: nothing would be tested");
            }
        }
        Ok(())
    }

    /// What stands for the processes in pods, where it is among them.
    pub(crate) fn probe(&self) -> Option<&Path> {
        self.programs.iter().map(PathBuf::as_path).find(|path| path.ends_with(PROBE))
    }

    pub(crate) fn for_counting(mut self) -> Self {
        self.tests.retain(|(name, _)| name == COUNTING);
        self
    }
}

/// Builds them, and asks cargo where they are.
pub(crate) fn build(platform: Platform) -> Result<Executables> {
    let (mut command, selection) = match platform {
        // As the tests here are built.
        Platform::X86 => (cargo("test"), &TESTED[..]),
        Platform::Arm64 => {
            println!("building the tests for arm64: from nothing, this takes ten minutes ...");
            (arm64::cargo("test")?, &WITHOUT_RIVALS[..])
        }
    };
    command.args(selection);
    command.args(["--no-run", "--quiet", "--message-format=json-render-diagnostics"]);
    parse(&capture(&mut command)?)
}

/// Reads cargo's messages, one JSON object a line.
fn parse(messages: &str) -> Result<Executables> {
    let mut found = Executables::default();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).with_context(|| format!("cargo's message {line}"))?;
        let Some(path) = message["executable"].as_str().map(PathBuf::from) else { continue };
        let target = &message["target"];
        let name = target["name"].as_str().unwrap_or_default();
        let source = target["src_path"].as_str().unwrap_or_default();
        if target["kind"][0] == "test" && (name.starts_with(PREFIX) || name == COUNTING || source.ends_with(TABLES)) {
            found.tests.push((name.to_owned(), path));
        } else if target["kind"][0] == "bin" && message["profile"]["test"] == false && !HOST_ONLY.contains(&name) {
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
            r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"conformance","src_path":"/w/agent/tests/conformance.rs"},"profile":{"test":true},"executable":"/t/conformance-1"}"#,
            r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"conformance","src_path":"/w/tests/tests/conformance/main.rs"},"profile":{"test":true},"executable":"/t/conformance-2"}"#,
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"millrace-agent"},"profile":{"test":false},"executable":"/t/millrace-agent"}"#,
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"millrace-agent"},"profile":{"test":true},"executable":"/t/millrace_agent-1"}"#,
            r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"instructions"},"profile":{"test":true},"executable":"/t/instructions-1"}"#,
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"millrace-bench"},"profile":{"test":false},"executable":"/t/millrace-bench"}"#,
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"xtask"},"profile":{"test":false},"executable":"/t/xtask"}"#,
            r#"{"reason":"build-finished","success":true}"#,
        ];
        let parsed = || parse(&messages.join("\n")).expect("cargo's messages");
        let found = parsed().for_kernels();
        let expected = [("kernel_boot", "/t/kernel_boot-1"), ("conformance", "/t/conformance-2")];
        assert_eq!(found.tests, expected.map(|(name, path)| (name.to_owned(), PathBuf::from(path))));
        assert_eq!(found.programs, ["/t/millrace-agent", "/t/millrace-bench"].map(PathBuf::from));
        let found = parsed().for_counting();
        assert_eq!(found.tests, [("instructions".to_owned(), PathBuf::from("/t/instructions-1"))]);
        assert_eq!(found.programs, ["/t/millrace-agent", "/t/millrace-bench"].map(PathBuf::from));
    }
}
