//! What follows from a boot: is there something to judge, may it be tried again, or has it failed? Pure.

use super::watch::{End, Watched};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Its tests began.
    Judge,
    /// Why this boot says nothing.
    Again(String),
    /// Why nothing will be judged.
    Fail(String),
}

/// A kernel that panics, or ends, has said something, and a second boot would hide it. One that stands still without a word
/// is the emulator's doing, and may be booted again.
pub(super) fn next(watched: &Watched, another: bool) -> Next {
    let console = &watched.console;
    if console.began {
        return Next::Judge;
    }
    if let Some(line) = console.panicked() {
        return Next::Fail(format!("the kernel panicked before its tests began: {line}"));
    }
    match watched.end {
        End::NoBegin(time) if another => Next::Again(hung(time.as_secs())),
        End::NoBegin(time) => Next::Fail(hung(time.as_secs())),
        _ => Next::Fail("the machine ended before its tests began, without a panic: see what QEMU says".to_owned()),
    }
}

fn hung(seconds: u64) -> String {
    format!("the tests did not begin within {seconds} s, and there was no panic")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kernel::console::Console;

    fn watched(lines: &[&str], end: End) -> Watched {
        let mut console = Console::default();
        lines.iter().for_each(|line| console.line(line, Duration::ZERO));
        Watched { console, end }
    }

    const HUNG: End = End::NoBegin(Duration::from_secs(120));
    const PANIC: &str = "[    1.2] Kernel panic - not syncing: Attempted to kill init!";

    #[test]
    fn tests_that_began_are_judged_whatever_came_then() {
        for end in [End::Over, End::Silent(Duration::from_secs(600))] {
            assert_eq!(next(&watched(&["MILLRACE-MACHINE-BEGIN 6.1", PANIC], end), true), Next::Judge);
        }
    }

    #[test]
    fn a_panic_before_the_tests_fails_however_many_boots_are_left() {
        for end in [End::Over, HUNG] {
            let Next::Fail(why) = next(&watched(&["[    0.1] Linux version", PANIC], end), true) else {
                panic!("a panic is tried again")
            };
            assert!(why.contains("Attempted to kill init"), "{why}");
        }
    }

    #[test]
    fn only_a_machine_that_stands_still_without_a_word_is_booted_again_and_not_for_ever() {
        assert!(matches!(next(&watched(&[], HUNG), true), Next::Again(_)));
        assert!(matches!(next(&watched(&[], HUNG), false), Next::Fail(_)));
        assert!(matches!(next(&watched(&[], End::Over), true), Next::Fail(_)));
    }
}
