//! What a virtual machine's console says, and the verdict: the tests passed only if each says so, and the machine
//! says that it reached the end.

use std::time::Duration;

use super::times::Times;

/// Words that open the lines of `init.sh`.
pub(crate) const BEGIN: &str = "MILLRACE-MACHINE-BEGIN";
pub(crate) const RESULT: &str = "MILLRACE-MACHINE-RESULT";
pub(crate) const END: &str = "MILLRACE-MACHINE-END";
/// Opens a line of a test that records what a kernel is like.
pub(crate) const RECORD: &str = "MILLRACE-RECORD";

/// What a kernel says when it gives up, or should.
const PANICS: [&str; 3] = ["Kernel panic", "BUG: unable to handle", "Oops:"];

/// Collects lines of a console.
#[derive(Debug, Default)]
pub(crate) struct Console {
    pub(crate) began: bool,
    passed: usize,
    failed: Vec<String>,
    ended: Option<bool>,
    /// The first line of a panic.
    panic: Option<String>,
    /// The beginning of a line whose end has not come yet.
    pending: Vec<u8>,
    pub(crate) times: Times,
    /// What follows the word, of each line that has it.
    pub(crate) records: Vec<String>,
}

impl Console {
    /// Takes output in as it comes, and gives back the lines that are complete.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        self.pending.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        lines
    }

    /// A line, and when it came.
    pub(crate) fn line(&mut self, line: &str, at: Duration) {
        self.times.line(line, at);
        if self.panic.is_none() && PANICS.iter().any(|word| line.contains(word)) {
            self.panic = Some(line.to_owned());
        }
        // A kernel message may stand before the word on the same line.
        if after(line, BEGIN).is_some() {
            self.began = true;
        } else if let Some(rest) = after(line, RESULT) {
            let mut words = rest.split_whitespace();
            match (words.next(), words.next()) {
                (Some(_), Some("0")) => self.passed += 1,
                (Some(name), Some(status)) => self.failed.push(format!("{name} (exit status {status})")),
                _ => self.failed.push(format!("unreadable result `{}`", rest.trim())),
            }
        } else if let Some(rest) = after(line, RECORD) {
            self.records.push(rest.trim().to_owned());
        } else if let Some(rest) = after(line, END) {
            self.ended = Some(rest.trim() == "0");
        }
    }

    /// The test that was seen last, and whether it ended.
    pub(crate) fn last_test(&self) -> Option<String> {
        self.times.last(&String::from_utf8_lossy(&self.pending))
    }

    pub(crate) fn panicked(&self) -> Option<&str> {
        self.panic.as_deref()
    }

    pub(crate) fn ended(&self) -> bool {
        self.ended.is_some()
    }

    /// # Errors
    /// Why these lines are no proof that `expected` test binaries passed.
    pub(crate) fn verdict(&self, expected: usize) -> Result<(), String> {
        let failed = self.failed.join(", ");
        let how = self.panic.as_deref().unwrap_or("panic or hang");
        match self.ended {
            None if !self.began => Err("the machine did not start".to_owned()),
            None if failed.is_empty() => {
                Err(format!("the machine ended after {} of {expected} test binaries: {how}", self.passed))
            }
            None => Err(format!("failed: {failed}; then the machine ended too early: {how}")),
            Some(true) if failed.is_empty() && self.passed == expected => Ok(()),
            Some(_) if failed.is_empty() => Err(format!("{} of {expected} test binaries passed", self.passed)),
            Some(_) => Err(format!("failed: {failed}")),
        }
    }
}

/// What follows `word` in a line that has it.
pub(crate) fn after<'line>(line: &'line str, word: &str) -> Option<&'line str> {
    line.split_once(word).map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(lines: &[&str]) -> Console {
        let mut console = Console::default();
        lines.iter().for_each(|line| console.line(line, Duration::ZERO));
        console
    }

    #[test]
    fn a_machine_whose_tests_all_pass_passes() {
        let console =
            console(&["MILLRACE-MACHINE-BEGIN 6.1", "MILLRACE-MACHINE-RESULT kernel_boot 0", "MILLRACE-MACHINE-END 0"]);
        assert_eq!(console.verdict(1), Ok(()));
    }

    #[test]
    fn a_test_that_fails_is_named() {
        let console = console(&[
            "MILLRACE-MACHINE-BEGIN 6.1",
            "MILLRACE-MACHINE-RESULT kernel_boot 101",
            "MILLRACE-MACHINE-END 1",
        ]);
        assert_eq!(console.verdict(1), Err("failed: kernel_boot (exit status 101)".to_owned()));
    }

    #[test]
    fn a_panic_in_the_middle_fails() {
        let console = console(&[
            "MILLRACE-MACHINE-BEGIN 6.1",
            "MILLRACE-MACHINE-RESULT kernel_boot 0",
            "Kernel panic - not syncing",
        ]);
        let why = console.verdict(2).expect_err("no end was seen");
        assert!(why.contains("1 of 2") && why.contains("not syncing"), "{why}");
    }

    #[test]
    fn a_machine_that_ran_fewer_tests_than_it_was_given_fails() {
        let console = console(&["MILLRACE-MACHINE-BEGIN 6.1", "MILLRACE-MACHINE-END 0"]);
        assert!(console.verdict(1).is_err());
    }

    #[test]
    fn output_is_cut_into_lines_wherever_it_was_cut_before() {
        let mut console = Console::default();
        assert_eq!(console.take(b"test one ... "), [""; 0]);
        assert_eq!(console.take(b"ok\r\ntest t"), ["test one ... ok"]);
        assert_eq!(console.take(b"wo ... ok\n\n"), ["test two ... ok", ""]);
    }

    #[test]
    fn silence_fails() {
        assert_eq!(console(&[]).verdict(1), Err("the machine did not start".to_owned()));
    }

    #[test]
    fn a_kernel_message_on_the_same_line_hides_no_result() {
        let console = console(&[
            "MILLRACE-MACHINE-BEGIN",
            "[ 1.0] veth: MILLRACE-MACHINE-RESULT kernel_boot 0",
            "MILLRACE-MACHINE-END 0",
        ]);
        assert_eq!(console.verdict(1), Ok(()));
    }
}
