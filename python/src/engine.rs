//! An engine and its threads.

use std::ffi::OsString;
use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portway::api::address::Place;
use portway::api::{self, Checkpoint, Error, Exit, StageOptions};
use pyo3::prelude::*;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use crate::error::{closed, forked, raised};
use crate::file::File;
use crate::job::{Job, State, start};
use crate::options::{Options, Staging};
use crate::save::Save;
use crate::stage::Stage;

/// Longest that transfers may take to become resumable when the engine is closed: what the engine
/// grants itself (20 s), and some to end.
const CLOSING: Duration = Duration::from_secs(25);
/// Longest that threads may take to end after that.
const THREADS: Duration = Duration::from_secs(5);

/// A checkpoint as Python sees it.
#[derive(Serialize)]
struct Found {
    remote: String,
    step: Option<u64>,
    root: String,
    files: u64,
    bytes: u64,
}

struct Running {
    runtime: Runtime,
    /// Jobs that had not ended when last looked at.
    jobs: Vec<Arc<State>>,
}

/// The engine of one home, in this process.
#[pyclass(frozen, weakref)]
pub(crate) struct Engine {
    inner: api::Engine,
    running: Mutex<Option<Running>>,
    process: u32,
}

impl Engine {
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something short with the engine, inside its runtime, without the GIL.
    fn job(
        &self,
        py: Python<'_>,
        begin: impl FnOnce(&api::Engine, &Runtime) -> Result<Job, Error> + Send,
    ) -> PyResult<Job> {
        let begun = if self.process == std::process::id() {
            py.detach(|| {
                let mut running = self.running();
                let Running { runtime, jobs } = running.as_mut().ok_or_else(closed)?;
                let _inside = runtime.enter();
                let job = begin(&self.inner, runtime)?;
                jobs.retain(|job| !job.has_ended());
                jobs.push(Arc::clone(&job.state));
                Ok(job)
            })
        } else {
            Err(forked())
        };
        begun.map_err(|error| raised(py, &error))
    }

    fn ask<T, F>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(api::Engine) -> Result<F, Error> + Send,
    ) -> PyResult<Job>
    where
        T: Serialize,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.job(py, |engine, runtime| start(runtime.handle(), None, work(engine.clone())?))
    }
}

fn transfer(runtime: &Runtime, transfer: api::Transfer) -> Result<Job, Error> {
    start(runtime.handle(), Some(transfer.clone()), transfer.wait())
}

#[pymethods]
impl Engine {
    #[new]
    #[expect(clippy::needless_pass_by_value, reason = "arguments from Python are owned")]
    fn new(py: Python<'_>, home: Option<PathBuf>) -> PyResult<Self> {
        let opened = py.detach(|| {
            let inner = api::Engine::at_home(home.as_deref())?;
            let mut builder = Builder::new_multi_thread();
            let runtime = builder.enable_all().thread_name("portway").build().map_err(|e| {
                Error::new("runtime", Exit::Failed, format!("no threads can be started: {e}"))
                    .hint("raise the limit on processes: ulimit -u")
            })?;
            let running = Mutex::new(Some(Running { runtime, jobs: Vec::new() }));
            Ok(Self { inner, running, process: std::process::id() })
        });
        opened.map_err(|error: Error| raised(py, &error))
    }

    /// The directory of this home's state.
    fn state_dir(&self) -> PathBuf {
        self.inner.home().state_dir().to_owned()
    }

    fn push(
        &self,
        py: Python<'_>,
        sources: Vec<PathBuf>,
        target: OsString,
        options: Options,
        save: Option<PathBuf>,
    ) -> PyResult<Job> {
        self.job(py, |engine, runtime| {
            let (target, options) = (engine.remote(target)?, options.read()?);
            let save = save.map(Save::take).transpose()?;
            let push = engine.push(sources, target, options);
            let Some(save) = save else { return transfer(runtime, push) };
            let ended = push.clone().wait();
            start(runtime.handle(), Some(push), async move {
                let outcome = ended.await;
                save.end(outcome.is_ok()).await;
                outcome
            })
        })
    }

    /// Whether a target can be meant.
    fn check_target(&self, py: Python<'_>, target: OsString) -> PyResult<()> {
        self.inner.remote(target).map(drop).map_err(|error| raised(py, &error))
    }

    fn pull(
        &self,
        py: Python<'_>,
        source: OsString,
        target: PathBuf,
        options: Options,
    ) -> PyResult<Job> {
        self.job(py, |engine, runtime| {
            let source = engine.remote(source)?;
            transfer(runtime, engine.pull(source, target, options.read()?))
        })
    }

    fn plan(
        &self,
        py: Python<'_>,
        sources: Vec<PathBuf>,
        target: OsString,
        options: Options,
    ) -> PyResult<Job> {
        self.ask(py, |engine| {
            let (target, options) = (engine.remote(target)?, options.read()?);
            Ok(async move { engine.plan(sources, target, options).await })
        })
    }

    fn list_at(&self, py: Python<'_>, remote: OsString) -> PyResult<Job> {
        self.ask(py, |engine| {
            let remote = engine.remote(remote)?;
            Ok(async move { engine.list(remote).await })
        })
    }

    fn verify(&self, py: Python<'_>, path: OsString) -> PyResult<Job> {
        self.ask(py, |engine| {
            let place = engine.place(path)?;
            Ok(async move {
                match place {
                    Place::Local(path) => engine.verify_local(path).await,
                    Place::Remote(remote) => engine.verify_remote(remote).await,
                }
            })
        })
    }

    /// The newest complete checkpoint of a directory, with its `NODE:PATH`.
    fn latest(&self, py: Python<'_>, remote: OsString) -> PyResult<Job> {
        self.ask(py, |engine| {
            let dir = engine.remote(remote)?;
            Ok(async move {
                let newest = engine.latest(&dir, None).await?;
                Ok(newest.map(|found| {
                    let Checkpoint { remote, step, root, files, bytes } = found;
                    Found { remote: remote.to_string(), step, root, files, bytes }
                }))
            })
        })
    }

    /// Opens a file at a node; wait for the job, then use the file.
    fn open_file(
        &self,
        py: Python<'_>,
        remote: OsString,
        published: bool,
    ) -> PyResult<(File, Job)> {
        let (file, opening) = File::pending();
        let job = self.ask(py, |engine| {
            let remote = engine.remote(remote)?;
            Ok(async move {
                opening.open(engine.open_file(remote, published).await?);
                Ok(())
            })
        })?;
        Ok((file, job))
    }

    /// Reads ranges of a file; wait for the job, then take what has this number.
    fn read_file(
        &self,
        py: Python<'_>,
        file: &File,
        number: u64,
        ranges: Vec<(u64, u64)>,
    ) -> PyResult<Job> {
        let (opened, keep) = (file.opened(), file.keeper());
        self.ask(py, |_| {
            Ok(async move {
                keep(number, opened?.read(&ranges).await?);
                Ok(())
            })
        })
    }

    /// Ends the session of a file.
    fn close_file(&self, py: Python<'_>, file: &File) -> PyResult<Job> {
        let opened = file.opened();
        self.ask(py, |_| {
            Ok(async move {
                opened?.close().await;
                Ok(())
            })
        })
    }

    /// Begins to stage a directory; wait for the job, then take the stage.
    fn stage(
        &self,
        py: Python<'_>,
        source: OsString,
        target: PathBuf,
        how: Staging,
        options: Options,
    ) -> PyResult<(Stage, Job)> {
        let (stage, begun) = Stage::pending();
        let job = self.ask(py, |engine| {
            let (source, transfer) = (engine.remote(source)?, options.read()?);
            let options = StageOptions { transfer, ..how.read()? };
            Ok(async move {
                begun.begin(engine.stage(source, target, options).await?);
                Ok(())
            })
        })?;
        Ok((stage, job))
    }

    /// A file of a stage, once it is there.
    fn stage_path(&self, py: Python<'_>, stage: &Stage, name: String) -> PyResult<Job> {
        let stage = stage.begun();
        self.ask(py, |_| Ok(async move { stage?.path(&name).await.map(drop) }))
    }

    /// All files of a stage.
    fn stage_wait(&self, py: Python<'_>, stage: &Stage) -> PyResult<Job> {
        let stage = stage.begun();
        self.ask(py, |_| Ok(async move { stage?.wait().await }))
    }

    /// Interrupts what a stage moves, and waits until it has stopped.
    fn stage_close(&self, py: Python<'_>, stage: &Stage) -> PyResult<Job> {
        let stage = stage.take();
        self.ask(py, |_| {
            Ok(async move {
                if let Some(stage) = stage {
                    stage.close().await;
                }
                Ok(())
            })
        })
    }

    /// Interrupts what runs, waits until it can be resumed, and ends the threads.
    fn close(&self, py: Python<'_>) {
        if self.process != std::process::id() {
            return;
        }
        py.detach(|| {
            let Some(Running { runtime, jobs }) = self.running().take() else { return };
            let end = Instant::now() + CLOSING;
            for job in &jobs {
                job.interrupt();
            }
            for job in jobs {
                let _ = job.wait_until(end);
            }
            runtime.shutdown_timeout(THREADS);
            self.inner.end_threads(THREADS);
        });
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // After a fork the lock may be held, and the threads are not there to be waited for.
        if self.process != std::process::id() {
            mem::forget(mem::take(&mut self.running));
            mem::forget(self.inner.clone());
        } else if let Some(Running { runtime, jobs }) = self.running().take() {
            for job in &jobs {
                job.interrupt();
            }
            runtime.shutdown_background();
        }
    }
}
