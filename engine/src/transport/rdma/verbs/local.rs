//! Completions of requests that the device has no part in, and a descriptor that tells of them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

use super::device::refused;
use crate::transport::rdma::{Completion, RailError};

/// Completions that wait to be taken.
pub(super) struct LocalCompletions {
    waiting: Vec<Completion>,
    wake: OwnedFd,
}

impl LocalCompletions {
    /// None so far.
    pub(super) fn new() -> Result<Self, RailError> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|error| refused("cannot make an event descriptor", &error.into()))?;
        Ok(Self { waiting: Vec::new(), wake })
    }

    /// Adds the completion of what succeeded.
    pub(super) fn push(&mut self, tag: u64) {
        self.waiting.push(Completion { tag, result: Ok(()) });
        // Cannot fail: the counter is far from full, as `take` sets it back.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Moves all to `done`.
    pub(super) fn take(&mut self, done: &mut Vec<Completion>) {
        if !self.waiting.is_empty() {
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            done.append(&mut self.waiting);
        }
    }

    /// Is readable while any waits.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
