//! Connections without end, each on a new socket: none may fail, whatever happens to the agent meanwhile.

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::atomic::Ordering,
    thread,
};

use super::{Attempt, LoadReport, Manner, Outcome, attempt::attempt, stream::end_of_input};

/// Failures that are kept word for word.
const KEPT: usize = 20;

/// Tries the targets in turn, in `workers` threads, until standard input ends; then prints a [`LoadReport`].
///
/// # Errors
/// If nobody reads what it prints.
///
/// # Panics
/// If a worker does.
pub fn load(to: &[SocketAddr], workers: usize, manner: &Manner) -> io::Result<()> {
    let ended = end_of_input();
    let mut report = LoadReport::default();
    let work = || {
        let mut attempts = Vec::new();
        for to in to.iter().cycle() {
            attempts.push(attempt(*to, manner).0);
            if ended.load(Ordering::Relaxed) {
                break;
            }
            thread::sleep(manner.every());
        }
        attempts
    };
    let done: Vec<Vec<Attempt>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker panicked")).collect()
    });
    for attempt in done.into_iter().flatten() {
        if let Outcome::Answered { greeting, .. } = attempt.outcome {
            *report.answered.entry(attempt.to).or_default().entry(greeting.name).or_default() += 1;
        } else {
            report.failed += 1;
            if report.failures.len() < KEPT {
                report.failures.push(attempt);
            }
        }
    }
    writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)
}
