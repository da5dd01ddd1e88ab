//! A queue pair with the requests that wait for it, and the room that it has.

use std::collections::VecDeque;

use super::pair::{QueuePair, Request};
use crate::transport::rdma::RailError;

/// READs under way in one queue pair at most.
const READS_MAX: usize = 64;
/// Windows of one queue pair that are being opened or closed at most.
const WINDOW_REQUESTS_MAX: usize = 192;
/// Requests of one queue pair at most.
pub(super) const REQUESTS_MAX: usize = READS_MAX + WINDOW_REQUESTS_MAX;

/// A queue pair and what is asked of it.
pub(super) struct Pair {
    pub(super) qp: QueuePair,
    /// Whether it can be used.
    pub(super) connected: bool,
    /// Requests that the device was not told of.
    pending: VecDeque<Request>,
    reads: usize,
    window_requests: usize,
}

impl Pair {
    /// A queue pair of which nothing was asked.
    pub(super) fn new(qp: QueuePair) -> Self {
        let pending = VecDeque::new();
        Self { qp, connected: false, pending, reads: 0, window_requests: 0 }
    }

    /// READs that fit now.
    pub(super) fn read_room(&self) -> usize {
        READS_MAX.saturating_sub(self.reads)
    }

    /// Windows that can be opened or closed now.
    pub(super) fn window_room(&self) -> usize {
        WINDOW_REQUESTS_MAX.saturating_sub(self.window_requests)
    }

    /// Takes in a request, for which there is room.
    pub(super) fn push(&mut self, request: Request, is_read: bool) {
        self.pending.push_back(request);
        *self.count(is_read) += 1;
    }

    /// Takes in that a request is over.
    pub(super) fn settle(&mut self, is_read: bool) {
        let count = self.count(is_read);
        *count = count.saturating_sub(1);
    }

    fn count(&mut self, is_read: bool) -> &mut usize {
        if is_read { &mut self.reads } else { &mut self.window_requests }
    }

    /// Tells the device of all that waits, at once.
    ///
    /// # Safety
    /// As of [`QueuePair::post`].
    pub(super) unsafe fn ring(&mut self) -> Result<(), RailError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        // SAFETY: the caller's promise is the same.
        let (taken, result) = unsafe { self.qp.post(self.pending.make_contiguous()) };
        self.pending.drain(..taken);
        result
    }
}
