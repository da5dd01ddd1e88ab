//! A job: something that runs in an engine's threads and ends with a report or an error.

use std::io::{PipeReader, Write, pipe};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portway::api::{Error, Exit, Transfer};
use pyo3::prelude::*;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::error::raised;

/// How long a signal may wait for the interpreter to look at it.
const SIGNALS: Duration = Duration::from_millis(50);

/// How a job stands. Shared by the task that runs it and whoever waits.
pub(crate) struct State {
    /// The report as JSON, once it has ended.
    ended: Mutex<Option<Result<String, Error>>>,
    changed: Condvar,
    transfer: Option<Transfer>,
    task: Mutex<Option<AbortHandle>>,
}

impl State {
    fn ended(&self) -> MutexGuard<'_, Option<Result<String, Error>>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, result: Result<String, Error>) {
        self.ended().get_or_insert(result);
        self.changed.notify_all();
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended().is_some()
    }

    /// Waits until it has ended or `until` has come; the GIL must not be held.
    pub(crate) fn wait_until(&self, until: Instant) -> Option<Result<String, Error>> {
        let mut ended = self.ended();
        while ended.is_none() {
            let left = until.checked_duration_since(Instant::now())?;
            let waited = self.changed.wait_timeout(ended, left);
            ended = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        ended.clone()
    }

    /// Stops a transfer, resumably; anything else at once.
    pub(crate) fn interrupt(&self) {
        if let Some(transfer) = &self.transfer {
            transfer.interrupt();
            return;
        }
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
            self.end(Err(Error::new("interrupted", Exit::Interrupted, "interrupted")));
        }
    }
}

/// Runs `work` in the engine's threads. A job of a transfer has its progress.
pub(crate) fn start<T: Serialize>(
    runtime: &Handle,
    transfer: Option<Transfer>,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<Job, Error> {
    let (ready, mut bell) = pipe().map_err(|e| {
        Error::new("no-descriptors", Exit::Failed, format!("cannot make a pipe: {e}"))
            .hint("raise `ulimit -n`")
    })?;
    let (ended, task) = (Mutex::default(), Mutex::default());
    let state = Arc::new(State { ended, changed: Condvar::new(), transfer, task });
    let running = Arc::clone(&state);
    let spawned = runtime.spawn(async move {
        let result = work.await.and_then(|report| {
            serde_json::to_string(&report)
                .map_err(|e| Error::new("internal", Exit::Failed, e.to_string()))
        });
        running.end(result);
        // A byte, and not only the end: a forked process may hold the pipe open.
        let _ = bell.write_all(b"!");
    });
    *state.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(spawned.abort_handle());
    Ok(Job { state, ready, process: std::process::id() })
}

/// Something under way. Clones of the Python object are the same job.
#[pyclass(frozen)]
pub(crate) struct Job {
    pub(crate) state: Arc<State>,
    ready: PipeReader,
    process: u32,
}

impl Job {
    fn state(&self, py: Python<'_>) -> PyResult<&Arc<State>> {
        if self.process == std::process::id() {
            Ok(&self.state)
        } else {
            Err(raised(py, &crate::error::forked()))
        }
    }
}

#[pymethods]
impl Job {
    /// The report as JSON, or None if the time (seconds) is over before the end.
    #[pyo3(signature = (timeout_s=None))]
    fn wait(&self, py: Python<'_>, timeout_s: Option<f64>) -> PyResult<Option<String>> {
        let state = self.state(py)?;
        let limit =
            timeout_s.map(|s| Duration::try_from_secs_f64(s.max(0.0)).unwrap_or(Duration::MAX));
        let end = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            let slice = Instant::now() + SIGNALS;
            let until = end.map_or(slice, |end| end.min(slice));
            match py.detach(|| state.wait_until(until)) {
                Some(Ok(report)) => return Ok(Some(report)),
                Some(Err(error)) => return Err(raised(py, &error)),
                None => py.check_signals()?,
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return Ok(None);
            }
        }
    }

    /// Whether it has ended.
    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        let state = self.state(py)?;
        Ok(py.detach(|| state.has_ended()))
    }

    /// The counters of a transfer as JSON.
    fn progress(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let state = self.state(py)?;
        let counters = py.detach(|| state.transfer.as_ref().map(Transfer::progress));
        counters
            .map(|counters| serde_json::to_string(&counters))
            .transpose()
            .map_err(|e| raised(py, &Error::new("internal", Exit::Failed, e.to_string())))
    }

    /// Stops it: a transfer resumably, anything else at once.
    fn interrupt(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.state(py)?;
        py.detach(|| state.interrupt());
        Ok(())
    }

    /// A descriptor that becomes readable at the end. It belongs to this object.
    fn fileno(&self) -> i32 {
        self.ready.as_raw_fd()
    }
}
