//! Staging: the files of a directory arrive one by one, in the order in which they will be needed.
//!
//! Each file is a pull of its own: verified, resumable, published by one rename. Some run at once,
//! in order; a file that someone waits for starts at once, whatever its turn was. From another site, a
//! file comes from a node of this site that has it, or that fetches it now. Several jobs may share a
//! store that the files go to, and have copies of their own that take no room.

mod fetch;
mod store;

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::engine::{Engine, canonical};
use super::pull::{Place, open_place};
use super::retry::interrupted;
use super::server::blocking;
use super::site::Together;
use super::{Error, Exit, Outcome, Remote, TransferOptions};
use crate::base::{PathError, Priority, RelPath};
use crate::runtime::copies::Copies;

/// How files are staged.
#[derive(Debug, Clone)]
pub struct StageOptions {
    /// Paths below the source, in the order in which they will be needed; `None` takes the files
    /// directly in it, by name.
    pub order: Option<Vec<String>>,
    /// So many files move at once, 1 to 16. More hide the round trips of a long way; fewer let
    /// the first ones arrive earlier.
    pub at_once: usize,
    /// Other nodes of this site that stage the same files from another site share them: each is
    /// fetched once.
    pub share: bool,
    /// The files go to this directory, which several jobs may name, and the target gets copies that
    /// take no room; `None` has them go to the target.
    pub store: Option<PathBuf>,
    /// How these copies are made.
    pub copies: Copies,
    /// For each file; its deadline is one for all of them.
    pub transfer: TransferOptions,
}

impl Default for StageOptions {
    fn default() -> Self {
        let priority = Priority::Staging;
        let transfer = TransferOptions { priority, ..TransferOptions::default() };
        Self {
            order: None,
            at_once: 4,
            share: true,
            store: None,
            copies: Copies::default(),
            transfer,
        }
    }
}

/// How staging stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct StageProgress {
    /// Files that are asked for.
    pub files_total: u64,
    /// Files that are there.
    pub files_done: u64,
    /// Files that failed, and that nobody has asked for again since.
    pub files_failed: u64,
    /// Content of the files that are there, in bytes.
    pub bytes_total: u64,
    /// What of it crossed between the nodes.
    pub bytes_sent: u64,
    /// What of that came from nodes of this site, not from the source.
    pub bytes_from_site: u64,
}

/// A directory that is being staged. Dropping it interrupts what moves; what is there stays.
pub struct Stage(Arc<Inner>);

#[derive(Debug, Clone)]
enum File {
    Waiting,
    Moving,
    There,
    Failed(Error),
}

struct Inner {
    engine: Engine,
    source: Remote,
    /// Where the files are pulled to: the target, or the store.
    local: PathBuf,
    /// The same in its root, which all pulls share.
    place: Place,
    /// The target, if it gets copies from a store.
    copies: Option<(PathBuf, Copies)>,
    options: TransferOptions,
    /// What comes from other nodes of this site, too.
    together: Option<Together>,
    cancel: watch::Sender<bool>,
    state: Mutex<State>,
}

struct State {
    /// Files whose turn has not come.
    queue: VecDeque<RelPath>,
    files: HashMap<RelPath, watch::Sender<File>>,
    moved: StageProgress,
    /// Tasks that move files; closed when the last one ends.
    running: watch::Sender<usize>,
}

impl Engine {
    /// Begins to stage the directory `source` at the local path `target`; needs a tokio runtime.
    ///
    /// # Errors
    /// A name in the order is not a path below the source; `source` cannot be listed; the target
    /// cannot be written.
    pub async fn stage(
        &self,
        source: Remote,
        target: PathBuf,
        options: StageOptions,
    ) -> Result<Stage, Error> {
        let order: Vec<RelPath> = match &options.order {
            Some(order) => order.iter().map(|name| below(name)).collect::<Result<_, _>>()?,
            None => {
                let listed = self.list(source.clone()).await?.into_iter();
                let files = listed.filter(|entry| entry.kind == "file");
                files.map(|entry| below(&entry.name)).collect::<Result<_, _>>()?
            }
        };
        let names = order.clone();
        let StageOptions { at_once, share, store, copies: how, transfer: options, .. } = options;
        let (engine, from) = (self.clone(), source.clone());
        let places = blocking(move || {
            let target = made(&target)?;
            let Some(store) = store else {
                return Ok::<_, Error>((open_place(&engine, &target, &from)?, target, None));
            };
            let store = made(&store)?;
            let place = open_place(&engine, &store, &from)?;
            store::try_out(&place, &target, how)?;
            Ok((place, store, Some((target, how))))
        });
        let (place, local, copies) = places.await??;
        let mut files = HashMap::new();
        let mut queue = VecDeque::new();
        for name in order {
            if files.insert(name.clone(), watch::channel(File::Waiting).0).is_none() {
                queue.push_back(name);
            }
        }
        let running = watch::channel(0).0;
        let state = Mutex::new(State { queue, files, moved: StageProgress::default(), running });
        let (engine, cancel) = (self.clone(), watch::channel(false).0);
        let way = (&source, &*local);
        let link = self.pull_in_time(way, Some(&names), &options).await?;
        // All files together had to be in time, not each.
        let options = TransferOptions { link, deadline: None, ..options };
        let together = if share { self.together(&source, &names, &options).await } else { None };
        let inner =
            Inner { engine, source, local, place, copies, options, together, cancel, state };
        let inner = Arc::new(inner);
        for _ in 0..at_once.clamp(1, 16) {
            Inner::spawn(&inner, None);
        }
        Ok(Stage(inner))
    }
}

/// A local directory, made if it is missing.
fn made(dir: &Path) -> Result<PathBuf, Error> {
    std::fs::create_dir_all(dir).map_err(|e| {
        let message = format!("cannot make {}: {e}", dir.display());
        Error::new("target", Exit::Failed, message).hint("stage to another directory")
    })?;
    canonical(dir)
}

fn deep(name: &RelPath, error: &PathError) -> Error {
    Error::new("unsafe-path", Exit::Usage, format!("{name}: {error}"))
}

/// A name in the order.
fn below(name: &str) -> Result<RelPath, Error> {
    match RelPath::from_typed(name.as_bytes()) {
        Ok(path) if !path.is_root() => Ok(path),
        Ok(_) => Err(Error::new("usage", Exit::Usage, format!("{name:?} names no file"))),
        Err(e) => Err(Error::new("usage", Exit::Usage, format!("{name:?} cannot be staged: {e}"))
            .hint("name a path below the source")),
    }
}

impl Stage {
    /// The local path of a file, once all of it is there. A file that is not there yet overtakes
    /// those whose turn has not come, and one that failed is tried again.
    ///
    /// # Errors
    /// As of a pull; the other files go on.
    pub async fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let name = below(name)?;
        let mut file = self.0.ask_for(&name)?;
        let ended = file.wait_for(|file| matches!(file, File::There | File::Failed(_))).await;
        match ended.as_deref() {
            Ok(File::Failed(error)) => Err(error.clone()),
            Ok(_) => Ok(self.0.seen_at(&name)),
            Err(_) => Err(interrupted()),
        }
    }

    /// How it stands.
    pub fn progress(&self) -> StageProgress {
        let state = self.0.state();
        let count = |wanted: fn(&File) -> bool| {
            state.files.values().filter(|file| wanted(&file.borrow())).count() as u64
        };
        StageProgress {
            files_total: state.files.len() as u64,
            files_done: count(|file| matches!(file, File::There)),
            files_failed: count(|file| matches!(file, File::Failed(_))),
            ..state.moved
        }
    }

    /// Waits until every file is there or has failed.
    ///
    /// # Errors
    /// That of the first file that failed.
    pub async fn wait(&self) -> Result<StageProgress, Error> {
        let mut running = self.0.state().running.subscribe();
        let _ = running.wait_for(|running| *running == 0).await;
        let failed = self.0.state().files.values().find_map(|file| match &*file.borrow() {
            File::Failed(error) => Some(error.clone()),
            File::Waiting | File::Moving => Some(interrupted()),
            File::There => None,
        });
        failed.map_or_else(|| Ok(self.progress()), Err)
    }

    /// Interrupts what moves, resumably, and waits until it has stopped.
    pub async fn close(&self) {
        self.0.cancel.send_replace(true);
        let mut running = self.0.state().running.subscribe();
        let _ = running.wait_for(|running| *running == 0).await;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.0.cancel.send_replace(true);
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where whoever stages finds a file.
    fn seen_at(&self, name: &RelPath) -> PathBuf {
        let target = self.copies.as_ref().map_or(&self.local, |(target, _)| target);
        target.join(OsStr::from_bytes(name.as_bytes()))
    }

    /// Sees to it that a file is on its way, now.
    fn ask_for(self: &Arc<Self>, name: &RelPath) -> Result<watch::Receiver<File>, Error> {
        if *self.cancel.borrow() {
            return Err(interrupted());
        }
        let mut state = self.state();
        let file =
            state.files.entry(name.clone()).or_insert_with(|| watch::channel(File::Waiting).0);
        let seen = file.subscribe();
        let idle = matches!(&*file.borrow(), File::Waiting | File::Failed(_));
        if idle {
            file.send_replace(File::Moving);
            state.queue.retain(|queued| queued != name);
            drop(state);
            Self::spawn(self, Some(name.clone()));
        }
        Ok(seen)
    }

    /// A task that moves the file `first`, or those in the queue until it is empty.
    fn spawn(inner: &Arc<Self>, first: Option<RelPath>) {
        inner.state().running.send_modify(|running| *running += 1);
        let inner = Arc::clone(inner);
        tokio::spawn(async move {
            let urgent = first.is_some();
            let mut next = first.or_else(|| inner.next());
            while let Some(name) = next {
                let ended = inner.bring(&name).await;
                inner.note(&name, ended);
                next = if urgent { None } else { inner.next() };
            }
            inner.state().running.send_modify(|running| *running -= 1);
        });
    }

    fn next(&self) -> Option<RelPath> {
        if *self.cancel.borrow() {
            return None;
        }
        let mut state = self.state();
        let name = state.queue.pop_front()?;
        if let Some(file) = state.files.get(&name) {
            file.send_replace(File::Moving);
        }
        Some(name)
    }

    fn note(&self, name: &RelPath, ended: Result<(Outcome, bool), Error>) {
        let mut state = self.state();
        let now = match ended {
            Ok((outcome, near)) => {
                state.moved.bytes_from_site += if near { outcome.bytes_sent } else { 0 };
                state.moved.bytes_total += outcome.bytes_total;
                state.moved.bytes_sent += outcome.bytes_sent;
                File::There
            }
            Err(error) => File::Failed(error),
        };
        if let Some(file) = state.files.get(name) {
            file.send_replace(now);
        }
    }
}
