//! Staging: the files of a directory arrive one by one, in the order in which they will be needed.
//!
//! Each file is a pull of its own: verified, resumable, published by one rename. Some run at once,
//! in order; a file that someone waits for starts at once, whatever its turn was. From another site, a
//! file comes from a node of this site that has it, or that fetches it now.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::engine::{Engine, canonical};
use super::fetches::Wish;
use super::pull::{Place, open_place};
use super::retry::{interrupted, stopped};
use super::server::blocking;
use super::site::{self, From, Together};
use super::{Error, Exit, Outcome, Remote, TransferOptions};
use crate::base::{PathError, Priority, RelPath};

/// Pause before a file is tried again that another process stages now.
const BUSY: Duration = Duration::from_millis(100);

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
    /// For each file; its deadline is one for all of them.
    pub transfer: TransferOptions,
}

impl Default for StageOptions {
    fn default() -> Self {
        let priority = Priority::Staging;
        let transfer = TransferOptions { priority, ..TransferOptions::default() };
        Self { order: None, at_once: 4, share: true, transfer }
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
    target: PathBuf,
    /// The target in its root, which all pulls share.
    place: Place,
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
        let (engine, from, to) = (self.clone(), source.clone(), target.clone());
        let place = blocking(move || {
            std::fs::create_dir_all(&to).map_err(|e| {
                let message = format!("cannot make {}: {e}", to.display());
                Error::new("target", Exit::Failed, message).hint("stage to another directory")
            })?;
            let to = canonical(&to)?;
            Ok::<_, Error>((open_place(&engine, &to, &from)?, to))
        });
        let (place, target) = place.await??;
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
        let StageOptions { at_once, share, transfer: options, .. } = options;
        let way = (&source, &*target);
        let link = self.pull_in_time(way, Some(&names), &options).await?;
        // All files together had to be in time, not each.
        let options = TransferOptions { link, deadline: None, ..options };
        let together = if share { self.together(&source, &names, &options).await } else { None };
        let inner =
            Arc::new(Inner { engine, source, target, place, options, together, cancel, state });
        for _ in 0..at_once.clamp(1, 16) {
            Inner::spawn(&inner, None);
        }
        Ok(Stage(inner))
    }
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
            Ok(_) => Ok(self.0.target.join(OsStr::from_bytes(name.as_bytes()))),
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
                let ended = inner.fetch(&name).await;
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

    /// Fetches one file from its source, or from a node of this site: then also tells `true`.
    async fn fetch(&self, name: &RelPath) -> Result<(Outcome, bool), Error> {
        let path = self.source.path.join_path(name).map_err(|e| deep(name, &e))?;
        let source = Remote { node: self.source.node.clone(), path, into: false };
        let known = self.together.as_ref().and_then(|it| Some((&it.site, it.file(name)?)));
        let Some((site, file)) = known else {
            return Ok((self.pull(source, name, &self.options).await?, false));
        };
        let (mut lost, mut cancelled) = (Vec::new(), self.cancel.subscribe());
        let local = self.target.join(OsStr::from_bytes(name.as_bytes()));
        loop {
            let copy = match site.find(file, &lost, &mut cancelled).await {
                From::Copy(copy) => copy,
                From::Source => {
                    let keeping = site.keep(file);
                    let ended = self.pull(source, name, &self.options).await;
                    drop(keeping);
                    let wish = ended.as_ref().map_or(Wish::Leave, |outcome| Wish::Done {
                        copy: site.copy(&local, &outcome.root),
                    });
                    site.tell(file, wish).await;
                    return ended.map(|outcome| (outcome, false));
                }
            };
            let pulled = match copy.remote() {
                Some(near) => self.pull(near, name, &site::near(&self.options)).await.map(Some),
                None => Ok(None),
            };
            match pulled {
                Ok(Some(outcome)) if outcome.root == copy.root => {
                    let copy = site.copy(&local, &outcome.root);
                    site.tell(file, Wish::Done { copy }).await;
                    return Ok((outcome, true));
                }
                Err(error) if *cancelled.borrow() => return Err(error),
                Err(error) => tracing::info!(%name, %error, "a copy in this site cannot be had"),
                Ok(_) => tracing::info!(%name, "a copy in this site is another one"),
            }
            site.tell(file, Wish::Lost { copy: copy.clone() }).await;
            lost.push(copy);
        }
    }

    /// Pulls one file. Where another process stages the same file it is waited for; then there is
    /// nothing left to move.
    async fn pull(
        &self,
        source: Remote,
        name: &RelPath,
        options: &TransferOptions,
    ) -> Result<Outcome, Error> {
        let path = self.place.path.join_path(name).map_err(|e| deep(name, &e))?;
        let mut cancelled = self.cancel.subscribe();
        loop {
            let place = Place { root: Arc::clone(&self.place.root), path: path.clone() };
            let (target, options) =
                (self.target.join(OsStr::from_bytes(name.as_bytes())), options.clone());
            let transfer = self.engine.pull_into(source.clone(), target, options, Some(place));
            let mut ended = Box::pin(transfer.clone().wait());
            let ended = tokio::select! {
                ended = &mut ended => ended,
                () = stopped(&mut cancelled) => {
                    transfer.interrupt();
                    ended.await
                }
            };
            match ended {
                Ok(outcome) => match outcome.failed.first() {
                    Some((path, why)) => {
                        let message = format!("{path} was not published: {why}");
                        return Err(Error::new("partial", Exit::Partial, message));
                    }
                    None => return Ok(outcome),
                },
                Err(error) if error.code == "conflict" && !*cancelled.borrow() => {
                    tokio::time::sleep(BUSY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
