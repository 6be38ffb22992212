//! A grace period that is real: when one ends, every program that ran when it began has ended.
//!
//! Updating an array of maps waits for all running programs (`maybe_wait_bpf_programs`, kernel/bpf/syscall.c): 8 to
//! 17 ms, so it runs on a thread of its own, and all that asks while one runs shares the next.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use tracing::error;

use super::syscall;

type Done = Box<dyn FnOnce(Result<(), Refused>) + Send>;

/// Between an attempt that the kernel refused and the next one: it is short of memory.
const PAUSE: Duration = Duration::from_millis(500);

/// There was no grace period: whatever waits for one must not be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel refused to wait for its running programs")]
pub struct Refused;

/// Asks for grace periods. The last one ends the thread when it is dropped.
#[derive(Clone)]
pub struct Grace {
    requests: Sender<Done>,
}

/// Creates the two tiny maps whose update is the wait.
///
/// # Errors
/// The kernel's, when it refuses a map of maps.
pub fn start() -> io::Result<Grace> {
    let (outer, inner) = syscall::create_array_of_maps()?;
    let (requests, incoming) = channel();
    thread::Builder::new().name("grace".into()).stack_size(64 << 10).spawn(move || serve(&incoming, &outer, &inner))?;
    Ok(Grace { requests })
}

fn serve(incoming: &Receiver<Done>, outer: &OwnedFd, inner: &OwnedFd) {
    while let Ok(first) = incoming.recv() {
        let mut batch = vec![first];
        batch.extend(incoming.try_iter());
        let inner = inner.as_raw_fd().to_ne_bytes();
        match syscall::map_update(outer.as_fd(), &0u32.to_ne_bytes(), &inner, 0) {
            Ok(()) => batch.into_iter().for_each(|done| done(Ok(()))),
            // Never report a grace period that was none: what waits for it stays unfreed, which is safe.
            Err(error) => {
                error!(%error, waiting = batch.len(), "no grace period: blocks stay unfreed until there is one");
                batch.into_iter().for_each(|done| done(Err(Refused)));
                thread::sleep(PAUSE);
            }
        }
    }
}

impl Grace {
    /// Calls `done` after the next grace period, on the grace thread, or when the kernel has refused it: who still waits
    /// asks again.
    pub fn request(&self, done: impl FnOnce(Result<(), Refused>) + Send + 'static) {
        // The thread lives as long as `self`, so there is always a receiver.
        let _ = self.requests.send(Box::new(done));
    }

    /// Blocks until a grace period has passed.
    ///
    /// # Errors
    /// When the kernel refused the update that waits.
    pub fn wait(&self) -> io::Result<()> {
        let (sender, receiver) = channel();
        self.request(move |passed| {
            // `receiver` waits below for as long as this can be called.
            let _ = sender.send(passed);
        });
        receiver.recv().unwrap_or(Err(Refused)).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// What waits for a grace period that was none is told so, in the order in which it asked, and may ask again.
    #[test]
    fn a_refused_grace_period_is_never_reported_as_one() {
        // The kernel refuses to update what is no map.
        let no_map = || OwnedFd::from(File::open("/dev/null").expect("every system has it"));
        let (requests, incoming) = channel();
        let grace = Grace { requests };
        let (sender, told) = channel();
        for ticket in 0..3 {
            let sender = sender.clone();
            grace.request(move |passed| sender.send((ticket, passed)).expect("the test listens"));
        }
        let serving = thread::spawn(move || serve(&incoming, &no_map(), &no_map()));
        let said: Vec<_> = told.iter().take(3).collect();
        assert_eq!(said, [(0, Err(Refused)), (1, Err(Refused)), (2, Err(Refused))]);
        let error = grace.wait().expect_err("no grace period has passed");
        assert!(error.to_string().contains("running programs"), "{error}");
        drop(grace);
        serving.join().expect("the thread ends with who asks");
    }
}
