//! How long each test took, by when the lines of a console came: one test at a time writes its name, then its verdict.

use std::time::Duration;

/// How many of the slowest are shown.
const SHOWN: usize = 5;

#[derive(Debug, Default)]
pub(crate) struct Times {
    /// When the test that runs now was begun: the last one's end.
    since: Duration,
    /// A test whose line was broken by a message before its verdict.
    running: Option<String>,
    took: Vec<(String, Duration)>,
}

impl Times {
    pub(crate) fn line(&mut self, line: &str, at: Duration) {
        if line.starts_with("running ") {
            self.since = at;
        }
        if let Some((name, rest)) = begun(line) {
            self.running = Some(name.to_owned());
            self.verdict(rest, at);
        } else if self.running.is_some() {
            self.verdict(line, at);
        }
    }

    /// The test that was seen last, and whether it ended. `beginning`: of a line whose end has not come: a test's name is
    /// written before it runs.
    pub(crate) fn last(&self, beginning: &str) -> Option<String> {
        let begun = begun(beginning).map(|(name, _)| name).or(self.running.as_deref());
        let ended = || self.took.last().map(|(name, _)| format!("{name} (it ended)"));
        begun.map(|name| format!("{name} (it did not end)")).or_else(ended)
    }

    fn verdict(&mut self, text: &str, at: Duration) {
        if ["ok", "FAILED"].contains(&text)
            && let Some(name) = self.running.take()
        {
            self.took.push((name, at.saturating_sub(self.since)));
            self.since = at;
        }
    }

    pub(crate) fn tests(&self) -> usize {
        self.took.len()
    }

    /// The slowest first.
    pub(crate) fn slowest(&self) -> Vec<(&str, Duration)> {
        let mut all: Vec<_> = self.took.iter().map(|(name, took)| (name.as_str(), *took)).collect();
        all.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        all.truncate(SHOWN);
        all
    }
}

/// The name of a test that is run, and what follows it.
fn begun(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("test ")?.split_once(" ... ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(lines: &[(u64, &str)]) -> Times {
        let mut times = Times::default();
        lines.iter().for_each(|(at, line)| times.line(line, Duration::from_secs(*at)));
        times
    }

    #[test]
    fn a_test_takes_from_the_last_ones_end_to_its_own() {
        let times = times(&[
            (3, "running 2 tests"),
            (5, "test quick ... ok"),
            (15, "test slow ... FAILED"),
            (16, "test result: FAILED. 1 passed; 1 failed"),
            (20, "running 1 test"),
            (21, "test other ... ok"),
        ]);
        let seconds: Vec<_> = times.slowest().into_iter().map(|(name, took)| (name, took.as_secs())).collect();
        assert_eq!(seconds, [("slow", 10), ("quick", 2), ("other", 1)]);
    }

    #[test]
    fn a_kernel_message_between_a_name_and_its_verdict_belongs_to_that_test() {
        let times = times(&[(0, "running 1 test"), (1, "test loud ... [ 1.0] IPVS: no destination"), (7, "ok")]);
        assert_eq!(times.slowest(), [("loud", Duration::from_secs(7))]);
        assert_eq!(times.tests(), 1);
    }
}
