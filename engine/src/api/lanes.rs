//! What transfers of each priority have: threads, leases, codecs, and their share of the node.
//!
//! Bulk has threads of its own that the system runs when hardly any others want to, and codecs that no other
//! transfer waits for. Staging and bulk have parts of the slab, so that those that wait hold no memory
//! that one which comes first needs.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

use super::TransferOptions;
use super::engine::{Engine, Inner};
use crate::base::{Priority, Rate};
use crate::buf::Slab;
use crate::runtime::codecs::Codecs;
use crate::runtime::shares::{Share, Shares};

/// How much the threads of bulk leave to others: of a processor that another thread wants, too, they have
/// a twenty-third (sched(7): weights of 45 and 1,024), so that they are never starved.
const NICE: i32 = 14;
/// Parts of the slab that staging and bulk have.
const STAGING_PART: usize = 2;
const BULK_PART: usize = 4;

/// The lanes of an engine; each is made when it is first needed.
#[derive(Default)]
pub(super) struct Lanes {
    shares: OnceLock<Arc<Shares>>,
    parts: OnceLock<(Slab, Slab)>,
    bulk_codecs: Arc<Codecs>,
    bulk: Mutex<Option<Runtime>>,
}

/// What a session of a transfer works with.
pub(super) struct Tools {
    pub(super) slab: Slab,
    pub(super) codecs: Arc<Codecs>,
    pub(super) share: Share,
}

impl Lanes {
    fn bulk(&self) -> MutexGuard<'_, Option<Runtime>> {
        self.bulk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The threads of a priority; `None` for those of the caller.
    fn threads(&self, priority: Priority) -> Option<Handle> {
        if priority != Priority::Bulk {
            return None;
        }
        let mut bulk = self.bulk();
        if bulk.is_none() {
            let mut builder = Builder::new_multi_thread();
            let builder = builder.enable_all().thread_name("portway-bulk").on_thread_start(be_nice);
            match builder.build() {
                Ok(runtime) => *bulk = Some(runtime),
                Err(error) => tracing::warn!(%error, "bulk has no threads of its own"),
            }
        }
        bulk.as_ref().map(|runtime| runtime.handle().clone())
    }

    /// Starts a task in the threads of its priority.
    pub(super) fn spawn(
        &self,
        priority: Priority,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        match self.threads(priority) {
            Some(threads) => drop(threads.spawn(work)),
            None => drop(tokio::spawn(work)),
        }
    }

    /// Runs work in the threads of its priority; dropping it ends it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        priority: Priority,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let Some(threads) = self.threads(priority) else { return work.await };
        let mut task = JoinSet::new();
        task.spawn_on(work, &threads);
        match task.join_next().await {
            Some(Ok(done)) => done,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The threads are gone, and with them whoever would wait for this.
            _ => std::future::pending().await,
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        if let Some(bulk) = self.bulk().take() {
            // An engine may end inside of a task, where nothing may wait.
            bulk.shutdown_background();
        }
    }
}

/// Runs work on a thread of its own that leaves processors to all others.
pub(super) fn spawn_nice(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Option<std::thread::JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn(move || {
        be_nice();
        work();
    });
    spawned.inspect_err(|error| tracing::warn!(%error, name, "no thread for it")).ok()
}

/// Lets the system run others before this thread.
fn be_nice() {
    // The system's threads have priorities of their own; without, this one is as others are.
    let _ = rustix::process::setpriority_process(None, NICE);
}

impl Inner {
    /// The place of a transfer among those of this node.
    pub(super) fn share(&self, options: &TransferOptions) -> Share {
        Share::new(self.shares(), options.priority, options.limit)
    }

    fn shares(&self) -> Arc<Shares> {
        let shares = self.lanes.shares.get_or_init(|| {
            let shares = Shares::open(&self.state_path("shares")).unwrap_or_else(|error| {
                tracing::warn!(%error, "priorities hold within this process only");
                Shares::default()
            });
            Arc::new(shares)
        });
        Arc::clone(shares)
    }

    /// What a session of a transfer of this priority works with; `limit` is its own cap.
    pub(super) fn tools(&self, priority: Priority, limit: Option<Rate>) -> Tools {
        let lanes = &self.lanes;
        let share = Share::new(self.shares(), priority, limit);
        let parts = lanes.parts.get_or_init(|| {
            let slab = &self.slab;
            (slab.part(STAGING_PART), slab.part(BULK_PART))
        });
        let (slab, codecs) = match priority {
            Priority::Interactive => (&self.slab, &self.codecs),
            Priority::Staging => (&parts.0, &self.codecs),
            Priority::Bulk => (&parts.1, &lanes.bulk_codecs),
        };
        Tools { slab: slab.clone(), codecs: Arc::clone(codecs), share }
    }
}

impl Engine {
    /// Ends the threads that transfers of [`Priority::Bulk`] had, and waits for that no longer than
    /// `patience`. What still ran there is lost, resumably; a later transfer has new ones. Call it
    /// outside of a tokio runtime.
    pub fn end_threads(&self, patience: Duration) {
        let bulk = self.0.lanes.bulk().take();
        if let Some(bulk) = bulk {
            bulk.shutdown_timeout(patience);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bulk_runs_in_threads_that_step_back() {
        let lanes = Lanes::default();
        let nice = || rustix::process::getpriority_process(None).expect("a priority");
        let ours = nice();
        assert_eq!(lanes.run(Priority::Staging, async move { nice() }).await, ours);
        assert_eq!(lanes.run(Priority::Bulk, async move { nice() }).await, NICE);
        let (told, heard) = std::sync::mpsc::channel();
        spawn_nice("a-test", move || told.send(nice()).expect("it is awaited")).expect("a thread");
        assert_eq!(heard.recv(), Ok(NICE));
        let blocking = async move { tokio::task::spawn_blocking(nice).await.expect("it ends") };
        assert_eq!(lanes.run(Priority::Bulk, blocking).await, NICE);
        assert_eq!(nice(), ours, "the caller is as it was");
    }
}
