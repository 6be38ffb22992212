//! What is freed is used again only when no program can still be reading it: a grace period ends after every program that
//! was running when it was asked for.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use millrace_agent::datapath::grace;
use millrace_tests::linger::Lingering;

/// Lets the program go and ends who runs it, also when the test has failed.
struct End<'a>(&'a Lingering, &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.1.store(true, Ordering::Relaxed);
        self.0.leave().unwrap();
    }
}

#[test]
fn a_grace_period_ends_after_the_program_that_was_under_way() {
    const TICKETS: usize = 5;
    let (program, grace) = (Arc::new(Lingering::load(5_000).unwrap()), grace::start().unwrap());
    // Once for the thread to be there, once for how long it takes where nobody is waited for.
    grace.wait().unwrap();
    let begun = Instant::now();
    grace.wait().unwrap();
    let usual = begun.elapsed();

    let (sender, over) = mpsc::channel();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = End(&program, &stop);
        let running = scope.spawn(|| program.run());
        while program.runs().unwrap().0 == 0 {
            assert!(!running.is_finished(), "the program does not run");
            thread::yield_now();
        }
        for ticket in 0..TICKETS {
            let (program, sender) = (Arc::clone(&program), sender.clone());
            grace.request(move |passed| sender.send((ticket, passed, program.runs().unwrap())).unwrap());
        }
        // Time enough for one that waits for nobody.
        thread::sleep(usual * 4);
        drop(end);
        running.join().unwrap().unwrap();
    });
    // Whoever is never called ends the wait for it.
    drop(sender);
    let said: Vec<_> = over.iter().take(TICKETS).collect();
    let expected: Vec<_> = (0..TICKETS).map(|ticket| (ticket, Ok(()), (1, 1))).collect();
    assert_eq!(said, expected, "ticket; whether a grace period has passed; runs that had begun and ended by then");
}

/// Programs run one after the other, and grace periods are asked for all the time, most of them while another is under way.
#[test]
fn who_asks_while_a_grace_period_is_under_way_waits_for_the_next() {
    const REQUESTS: usize = 300;
    let (program, grace) = (Arc::new(Lingering::load(20).unwrap()), grace::start().unwrap());
    let (sender, over) = mpsc::channel();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = End(&program, &stop);
        let running = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                program.run().unwrap();
            }
        });
        for _ in 0..REQUESTS {
            let (program, sender) = (Arc::clone(&program), sender.clone());
            let (begun, _) = program.runs().unwrap();
            grace.request(move |passed| {
                passed.unwrap();
                sender.send((begun, program.runs().unwrap().1)).unwrap();
            });
            // Several in the time of a grace period.
            thread::sleep(Duration::from_millis(1));
        }
        drop(sender);
        let said: Vec<_> = over.iter().collect();
        assert_eq!(said.len(), REQUESTS);
        for (begun, ended) in said {
            assert!(ended >= begun, "asked for in run {begun}, over when {ended} had ended");
        }
        drop(end);
        running.join().unwrap();
    });
}
