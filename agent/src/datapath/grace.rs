//! A grace period that is real: when one ends, every program that ran when it began has ended.
//!
//! Updating an array of maps waits for all running programs (`maybe_wait_bpf_programs`, kernel/bpf/syscall.c): 8 to
//! 17 ms, so it runs on a thread of its own, and all that asks while one runs shares the next.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use tracing::error;

use super::syscall;

type Done = Box<dyn FnOnce() + Send>;

/// Asks for grace periods. Ends its thread when dropped.
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
            Ok(()) => batch.into_iter().for_each(|done| done()),
            // Never report a grace period that was none: what waits for it stays unfreed, which is safe.
            Err(error) => error!(%error, waiting = batch.len(), "no grace period: blocks stay unfreed"),
        }
    }
}

impl Grace {
    /// Calls `done` after the next grace period, on the grace thread.
    pub fn request(&self, done: impl FnOnce() + Send + 'static) {
        // The thread lives as long as `self`, so there is always a receiver.
        let _ = self.requests.send(Box::new(done));
    }

    /// Blocks until a grace period has passed.
    ///
    /// # Errors
    /// When the kernel refused the update that waits.
    pub fn wait(&self) -> io::Result<()> {
        let (sender, receiver) = channel();
        self.request(move || {
            // `receiver` waits below for as long as this can be called.
            let _ = sender.send(());
        });
        receiver.recv().map_err(|_| io::Error::other("the kernel refused to wait for its running programs"))
    }
}
