//! A completion queue, and the channel that wakes up whoever waits for it.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::null_mut;
use std::sync::Arc;

use rdma_sys::{ibv_comp_channel, ibv_cq, ibv_wc, ibv_wc_status};

use super::device::{Context, refused, unblock};
use super::library::{Handle, Plain};
use crate::transport::rdma::RailError;

/// Completions taken at once.
const BATCH: usize = 32;
/// The same, as the library counts.
const BATCH_MAX: i32 = 32;

// SAFETY: plain numbers, and a union of them.
unsafe impl Plain for [ibv_wc; BATCH] {}

/// What a device says of a request that is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    /// The request's number.
    pub(super) number: u64,
    /// How it went: `ibv_wc_status`.
    pub(super) status: ibv_wc_status::Type,
    /// What the vendor adds to that.
    pub(super) vendor: u32,
}

/// A completion channel.
pub(super) struct Channel {
    raw: Handle<ibv_comp_channel>,
    context: Arc<Context>,
}

impl Channel {
    /// A new channel of a device.
    pub(super) fn new(context: &Arc<Context>) -> Result<Arc<Self>, RailError> {
        // SAFETY: an open device.
        let raw = unsafe { (context.library.ibv_create_comp_channel)(context.raw()) };
        let raw = Handle::new(raw).ok_or_else(|| {
            let what = format!("cannot make a completion channel at {}", context.name());
            refused(what, &io::Error::last_os_error())
        })?;
        let channel = Self { raw, context: Arc::clone(context) };
        unblock(channel.descriptor())?;
        Ok(Arc::new(channel))
    }

    /// Becomes readable at a completion that was asked for.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: a channel that exists; the descriptor does not change.
        let fd = unsafe { (*self.raw.raw()).fd };
        // SAFETY: the descriptor is open as long as the channel.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: completion queues keep their channel, so none is left.
        let code = unsafe { (self.context.library.ibv_destroy_comp_channel)(self.raw.raw()) };
        if code != 0 {
            tracing::warn!(device = self.context.name(), "a completion channel stays behind");
        }
    }
}

/// A completion queue.
pub(super) struct CompletionQueue {
    raw: Handle<ibv_cq>,
    channel: Arc<Channel>,
}

impl CompletionQueue {
    /// A queue with room for `entries` completions.
    pub(super) fn new(channel: &Arc<Channel>, entries: usize) -> Result<Arc<Self>, RailError> {
        let context = &channel.context;
        let entries = i32::try_from(entries).unwrap_or(i32::MAX);
        let create = context.library.ibv_create_cq;
        // SAFETY: an open device and a channel of it, which the queue keeps.
        let raw = unsafe { create(context.raw(), entries, null_mut(), channel.raw.raw(), 0) };
        let raw = Handle::new(raw).ok_or_else(|| {
            let what = format!("cannot make a completion queue at {}", context.name());
            refused(what, &io::Error::last_os_error())
        })?;
        Ok(Arc::new(Self { raw, channel: Arc::clone(channel) }))
    }

    /// The pointer, for queue pairs.
    pub(super) fn raw(&self) -> *mut ibv_cq {
        self.raw.raw()
    }

    /// Calls `each` for what is over.
    pub(super) fn poll(&self, mut each: impl FnMut(Done)) -> Result<(), RailError> {
        let context = &self.channel.context;
        let broken = || RailError::new(format!("a completion queue of {} failed", context.name()));
        let poll = context.ops.poll_cq.ok_or_else(broken)?;
        loop {
            let mut batch = <[ibv_wc; BATCH]>::zeroed();
            // SAFETY: a queue of the device that the function is of, and room for `BATCH`.
            let count = unsafe { poll(self.raw(), BATCH_MAX, batch.as_mut_ptr()) };
            let count = usize::try_from(count).map_err(|_| broken())?;
            for wc in batch.iter().take(count) {
                each(Done { number: wc.wr_id, status: wc.status, vendor: wc.vendor_err });
            }
            if count < BATCH {
                return Ok(());
            }
        }
    }

    /// Asks for an event at the next completion; takes in the events so far.
    pub(super) fn arm(&self) -> Result<(), RailError> {
        self.take_events();
        let context = &self.channel.context;
        let failed = |error: &io::Error| refused("cannot ask for a completion event", error);
        let unsupported = || failed(&io::Error::from(io::ErrorKind::Unsupported));
        let notify = context.ops.req_notify_cq.ok_or_else(unsupported)?;
        // SAFETY: a queue of the device that the function is of.
        match unsafe { notify(self.raw(), 0) } {
            0 => Ok(()),
            code => Err(failed(&io::Error::from_raw_os_error(code.abs()))),
        }
    }

    /// Takes in and acknowledges all events: a queue cannot be destroyed while one is open.
    fn take_events(&self) {
        let library = self.channel.context.library;
        loop {
            let (mut queue, mut ignored) = (null_mut(), null_mut());
            let channel = self.channel.raw.raw();
            let next = library.ibv_get_cq_event;
            // SAFETY: a channel that exists, and two pointers to write to. It does not block.
            if unsafe { next(channel, &raw mut queue, &raw mut ignored) } != 0 {
                return;
            }
            // SAFETY: the queue of the event: a channel has one queue at a time.
            unsafe { (library.ibv_ack_cq_events)(queue, 1) };
        }
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        let context = &self.channel.context;
        // SAFETY: queue pairs keep their queue, so none is left, and all events that were taken
        // are acknowledged.
        let code = unsafe { (context.library.ibv_destroy_cq)(self.raw()) };
        if code != 0 {
            tracing::warn!(device = context.name(), "a completion queue stays behind");
            std::mem::forget(Arc::clone(&self.channel));
        }
    }
}
