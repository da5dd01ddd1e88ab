//! Transfers: started, watched, reconnected until they end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;

use super::connect::{Session, link_error, recv, refused};
use super::engine::{Engine, canonical};
use super::sources::{Landing, Sources, local_target};
use super::{Error, Exit, Outcome, Plan, Remote, TransferOptions};
use crate::base::TransferId;
use crate::metrics::{Phase, Snapshot, TransferMeter};
use crate::protocol::{FailedObject, SourceEnd, Stop, TargetEnd, Task};
use crate::runtime::drive::{Context, Lost, run_source, run_target};
use crate::runtime::root::Root;
use crate::runtime::target::{StoreOptions, TargetStore};
use crate::transport::Link;
use crate::wire::{Accept, Frame, Numbers, Open, Operation, Published};

/// How long a peer that was never reached is tried.
const FIRST_CONTACT: Duration = Duration::from_secs(10);
/// Pauses between attempts: the first, and the longest.
const PAUSE_MS: (u64, u64) = (200, 10_000);
/// Failed and skipped entries that a report lists.
const LISTED_MAX: usize = 1000;

/// A transfer under way. Clones are the same transfer; dropping them lets it run on.
#[derive(Clone)]
pub struct Transfer {
    meter: Arc<TransferMeter>,
    cancel: watch::Sender<bool>,
    ended: watch::Receiver<Option<Result<Outcome, Error>>>,
    started: Instant,
}

impl Transfer {
    /// The counters now.
    pub fn progress(&self) -> Snapshot {
        if self.ended.borrow().is_none() {
            self.meter.elapsed_ms.set(self.started.elapsed().as_millis() as u64);
        }
        self.meter.snapshot()
    }

    /// Stops it, resumably: what has arrived is made durable first.
    pub fn interrupt(&self) {
        self.cancel.send_replace(true);
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// Says whether to retry, resume or give up by its exit status.
    pub async fn wait(mut self) -> Result<Outcome, Error> {
        let ended = self.ended.wait_for(Option::is_some).await;
        match ended.ok().and_then(|ended| ended.clone()) {
            Some(result) => result,
            None => Err(Error::new("internal", Exit::Failed, "the transfer's task is gone")),
        }
    }
}

/// Why an attempt ended.
enum Miss {
    /// Trying again may help.
    Again(Error),
    /// It will not.
    Final(Error),
}

type Attempt<T> = Result<T, Miss>;

fn random_id() -> TransferId {
    let mut bytes = [0; 16];
    // Without randomness an id is only less unique.
    let _ = SystemRandom::new().fill(&mut bytes);
    TransferId(u128::from_le_bytes(bytes))
}

impl Engine {
    /// Starts to push `sources` to `target`; needs a tokio runtime.
    pub fn push(
        &self,
        sources: Vec<PathBuf>,
        target: Remote,
        options: TransferOptions,
    ) -> Transfer {
        let job = Push { engine: self.clone(), sources, target, options, id: random_id() };
        let (peer, path) = (format!("{}", job.target.node), job.target.path.to_string());
        self.start("push", &peer, &path, move |meter, cancel| job.run(meter, cancel))
    }

    /// Starts to pull `source` to the local path `target`; needs a tokio runtime.
    pub fn pull(&self, source: Remote, target: PathBuf, options: TransferOptions) -> Transfer {
        let (peer, path) = (format!("{}", source.node), target.display().to_string());
        let job = Pull { engine: self.clone(), source, target, options, id: random_id() };
        self.start("pull", &peer, &path, move |meter, cancel| job.run(meter, cancel))
    }

    /// Finds out what a push would move, and changes nothing.
    ///
    /// # Errors
    /// As a push.
    pub async fn plan(
        &self,
        sources: Vec<PathBuf>,
        target: Remote,
        options: TransferOptions,
    ) -> Result<Plan, Error> {
        let options = TransferOptions { dry_run: true, ..options };
        let meter = TransferMeter::new("plan", "", "");
        let job = Push { engine: self.clone(), sources, target, options, id: random_id() };
        let (_cancel, cancelled) = watch::channel(false);
        let prepared = job.prepare()?;
        let session = self.connect(&job.target.node).await?;
        let site = session.link.peer().site.clone();
        let rtt_us = session.link.meter().rtt_us;
        let (done, free_bytes) = match job.attempt(session, &prepared, &meter, &cancelled).await {
            Ok(done) => done,
            Err(Miss::Again(error) | Miss::Final(error)) => return Err(error),
        };
        let Numbers { files, sent, deduplicated, resumed, .. } = done.published.numbers;
        let ours = self.identity()?.id().site.clone();
        let configured = self.0.config.link_rate_bps(&ours, &site).map(|rate| rate as f64 / 8.0);
        let measured = super::rates::last(&self.0, &job.target.node.to_string());
        let (rate, basis) = match (configured, measured) {
            (Some(rate), _) => (Some(rate), format!("the configured rate of the link to {site}")),
            (None, Some(rate)) => (Some(rate), "the last transfer to this node".to_owned()),
            (None, None) => (None, "nothing is known of this path yet".to_owned()),
        };
        Ok(Plan {
            files,
            files_to_move: prepared.files.needed(),
            bytes_total: sent + deduplicated + resumed,
            bytes_to_send: sent,
            bytes_deduplicated: deduplicated,
            bytes_resumed: resumed,
            estimate_s: rate.map(|rate| sent as f64 / rate.max(1.0) + rtt_us as f64 / 1e6 * 3.0),
            estimate_basis: basis,
            free_bytes,
            path: "quic: the only transport of this build between nodes".to_owned(),
        })
    }

    fn start<F>(
        &self,
        action: &str,
        peer: &str,
        path: &str,
        run: impl FnOnce(Arc<TransferMeter>, watch::Receiver<bool>) -> F,
    ) -> Transfer
    where
        F: Future<Output = Result<Outcome, Error>> + Send + 'static,
    {
        let meter = TransferMeter::new(action, peer, path);
        let (cancel, cancelled) = watch::channel(false);
        let started = Instant::now();
        let (engine, running) = (self.clone(), run(Arc::clone(&meter), cancelled));
        let watched = Arc::clone(&meter);
        let (end, ended) = watch::channel(None);
        tokio::spawn(async move {
            engine.0.registry.begin(&watched);
            let mut result = running.await;
            watched.set_phase(Phase::Ended, "");
            watched.elapsed_ms.set(started.elapsed().as_millis() as u64);
            if let Ok(outcome) = &mut result {
                outcome.elapsed_s = started.elapsed().as_secs_f64();
                outcome.bytes_wire = watched.bytes_wire.value();
            }
            let how = match &result {
                Ok(_) => "done".to_owned(),
                Err(error) => error.to_string(),
            };
            engine.0.registry.end(&watched, result.is_ok(), &how);
            end.send_replace(Some(result));
        });
        Transfer { meter, cancel, ended, started }
    }
}

/// Dials again and again, with growing pauses, until the time is over.
struct Retry<'a> {
    engine: &'a Engine,
    node: &'a super::NodeAddress,
    meter: &'a TransferMeter,
    cancel: watch::Receiver<bool>,
    patience: Duration,
    end: Instant,
    pause_ms: u64,
}

impl<'a> Retry<'a> {
    fn new(
        engine: &'a Engine,
        node: &'a super::NodeAddress,
        options: &TransferOptions,
        meter: &'a TransferMeter,
        cancel: watch::Receiver<bool>,
    ) -> Self {
        let patience_s = options.retry_s.unwrap_or(engine.0.config.settings.retry.max_s);
        let patience = Duration::from_secs(patience_s);
        let end = Instant::now() + FIRST_CONTACT.min(patience);
        Self { engine, node, meter, cancel, patience, end, pause_ms: PAUSE_MS.0 }
    }

    /// A session with the node.
    async fn connect(&mut self) -> Result<Session, Error> {
        loop {
            self.meter.set_phase(Phase::Connecting, "");
            let connected = tokio::select! {
                () = stopped(&mut self.cancel) => return Err(interrupted()),
                connected = self.engine.connect(self.node) => connected,
            };
            match connected {
                Ok(session) => {
                    self.meter.set_peer(session.link.peer().node.as_str());
                    self.meter.set_transport(session.link.name());
                    self.end = Instant::now() + self.patience;
                    return Ok(session);
                }
                Err(error) if matches!(error.exit, Exit::Refused | Exit::Usage) => {
                    return Err(error);
                }
                Err(error) => self.pause(Miss::Again(error)).await?,
            }
        }
    }

    /// Waits before the next attempt, if one may help.
    async fn pause(&mut self, miss: Miss) -> Result<(), Error> {
        let error = match miss {
            Miss::Final(error) => return Err(error),
            Miss::Again(_) if *self.cancel.borrow() => return Err(interrupted()),
            Miss::Again(error) => error,
        };
        let pause = jittered(self.pause_ms);
        if Instant::now() + pause >= self.end {
            return Err(error);
        }
        tracing::warn!(%error, pause_ms = self.pause_ms, "the transfer waits and tries again");
        self.meter.set_phase(Phase::Connecting, &error.to_string());
        self.meter.reconnects.add(1);
        tokio::select! {
            () = stopped(&mut self.cancel) => return Err(interrupted()),
            () = tokio::time::sleep(pause) => {}
        }
        self.pause_ms = (self.pause_ms * 2).min(PAUSE_MS.1);
        Ok(())
    }
}

async fn stopped(cancel: &mut watch::Receiver<bool>) {
    if cancel.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn interrupted() -> Error {
    Error::new("interrupted", Exit::Interrupted, "interrupted; nothing is lost")
        .hint("the same command goes on where this one ended")
}

/// Up to a fifth more or less, so that many nodes do not come back at once.
fn jittered(ms: u64) -> Duration {
    let mut byte = [128];
    let _ = SystemRandom::new().fill(&mut byte);
    Duration::from_millis(ms * (205 + u64::from(byte[0]) * 102 / 255) / 256)
}

/// What a transfer that published had to say.
struct Done {
    published: Published,
    failed: Vec<FailedObject>,
}

impl Done {
    fn outcome(
        self,
        id: TransferId,
        transport: &str,
        remarks: crate::runtime::source::Remarks,
    ) -> Outcome {
        let Published { root, numbers } = self.published;
        let Numbers { files, sent, deduplicated, resumed, discarded } = numbers;
        let failed = self.failed.into_iter().map(|f| (f.path, f.failure.detail));
        let unscanned = remarks.failed.into_iter().map(|r| (r.path, r.reason));
        Outcome {
            transfer_id: id.to_string(),
            root: root.to_string(),
            files,
            bytes_total: sent + deduplicated + resumed,
            bytes_sent: sent,
            bytes_deduplicated: deduplicated,
            bytes_resumed: resumed,
            bytes_wire: 0,
            bytes_discarded: discarded,
            elapsed_s: 0.0,
            transport: transport.to_owned(),
            verified: true,
            failed: unscanned.chain(failed).take(LISTED_MAX).collect(),
            skipped: remarks.skipped.into_iter().map(|r| (r.path, r.reason)).collect(),
            skipped_total: remarks.skipped_total,
        }
    }
}

/// Asks for a transfer and waits for the answer.
async fn open(session: &Session, open: Open, label: &str) -> Attempt<Accept> {
    let link = &session.link;
    let failed = |error| Miss::Again(link_error(&error, label));
    link.send(Frame::Open(open).encode()).await.map_err(failed)?;
    match recv(link).await.map_err(failed)? {
        Frame::Accept(accept) => Ok(accept),
        Frame::Refuse { code, detail, retry } => {
            let error = refused(label, &code, &detail);
            Err(if retry { Miss::Again(error) } else { Miss::Final(error) })
        }
        other => {
            let message = format!("{label} answered with {}", other.name());
            Err(Miss::Final(Error::new("protocol", Exit::Failed, message)))
        }
    }
}

fn lost(lost: Lost, label: &str) -> Miss {
    match lost {
        Lost::Cancelled => Miss::Final(interrupted()),
        Lost::Link(error) => {
            let error = link_error(&error, label);
            if error.exit == Exit::Interrupted || error.code == "peer-unreachable" {
                Miss::Again(error)
            } else {
                Miss::Final(error)
            }
        }
    }
}

fn stop(stop: Stop, label: &str) -> Miss {
    match stop {
        Stop::Refused { failure, retry } => {
            let error = refused(label, &failure.code, &failure.detail);
            // A full disk does not empty itself while we knock.
            if retry && failure.code == "stopping" {
                Miss::Again(error)
            } else {
                Miss::Final(error)
            }
        }
        Stop::Violation(failure) => Miss::Final(refused(label, &failure.code, &failure.detail)),
        Stop::Local(failure) => Miss::Final(refused("this node", &failure.code, &failure.detail)),
    }
}

struct Push {
    engine: Engine,
    sources: Vec<PathBuf>,
    target: Remote,
    options: TransferOptions,
    id: TransferId,
}

impl Push {
    fn prepare(&self) -> Result<Sources, Error> {
        Sources::prepare(&self.sources, &self.target, self.engine.0.backend())
    }

    async fn run(
        self,
        meter: Arc<TransferMeter>,
        cancel: watch::Receiver<bool>,
    ) -> Result<Outcome, Error> {
        let prepared = self.prepare()?;
        let _lock = super::rates::lock(&self.engine.0, &self.target.node, &prepared.target)?;
        let started = Instant::now();
        let node = &self.target.node;
        let mut retry = Retry::new(&self.engine, node, &self.options, &meter, cancel.clone());
        let (done, remarks) = loop {
            let session = retry.connect().await?;
            let sources = prepared.again();
            match self.attempt(session, &sources, &meter, &cancel).await {
                Ok((done, _)) => break (done, sources.files.remarks()),
                Err(miss) => retry.pause(miss).await?,
            }
        };
        let snapshot = meter.snapshot();
        let sent = done.published.numbers.sent;
        super::rates::note(&self.engine.0, &self.target.node, sent, started.elapsed());
        let id = snapshot.transfer_id.parse().unwrap_or(self.id);
        Ok(done.outcome(id, &snapshot.transport, remarks))
    }

    /// One session: asks, then runs the source until the target has published.
    async fn attempt(
        &self,
        session: Session,
        sources: &Sources,
        meter: &Arc<TransferMeter>,
        cancel: &watch::Receiver<bool>,
    ) -> Attempt<(Done, u64)> {
        let label = session.link.peer().node.to_string();
        let operation = if self.options.dry_run { Operation::Plan } else { Operation::Push };
        let request = Open {
            operation,
            transfer_id: self.id,
            path: sources.target.clone(),
            checksum: self.options.checksum,
        };
        let accept = open(&session, request, &label).await?;
        meter.set_id(accept.transfer_id);
        tracing::info!(transfer = %accept.transfer_id, peer = %label, "pushing");
        let context = Context {
            link: session.link.clone(),
            slab: self.engine.0.slab.clone(),
            meter: Arc::clone(meter),
            cancel: cancel.clone(),
        };
        let files = Arc::clone(&sources.files);
        let ended = run_source(context, files, self.options.dry_run).await;
        let reason = match &ended {
            Ok(SourceEnd::Published(..)) => "done",
            Ok(SourceEnd::Stopped(_)) => "stopped",
            Err(_) => "interrupted",
        };
        session.link.close(reason).await;
        match ended {
            Ok(SourceEnd::Published(published, failed)) => {
                Ok((Done { published, failed }, accept.free_bytes))
            }
            Ok(SourceEnd::Stopped(why)) => Err(stop(why, &label)),
            Err(why) => Err(lost(why, &label)),
        }
    }
}

struct Pull {
    engine: Engine,
    source: Remote,
    target: PathBuf,
    options: TransferOptions,
    id: TransferId,
}

impl Pull {
    async fn run(
        self,
        meter: Arc<TransferMeter>,
        cancel: watch::Receiver<bool>,
    ) -> Result<Outcome, Error> {
        let Landing { root, path } = local_target(&self.target, &self.source)?;
        let root_dir = canonical(&root)?;
        let root = Root::open(&root_dir, self.engine.0.backend()).map_err(|e| {
            Error::new("root", Exit::Failed, e.to_string())
                .hint("a pull writes below the directory that holds its target")
        })?;
        let owner = self.engine.identity()?.id().node.clone();
        let writer = root.writer(&path, owner.as_str()).await.map_err(|_| {
            let shown = self.target.display();
            Error::new("conflict", Exit::Failed, format!("another transfer writes to {shown}"))
                .hint("wait for it, or choose another path")
        })?;
        let node = &self.source.node;
        let mut retry = Retry::new(&self.engine, node, &self.options, &meter, cancel.clone());
        let done = loop {
            let session = retry.connect().await?;
            match self.attempt(session, &root, &path, &meter, &cancel).await {
                Ok(done) => break done,
                Err(miss) => retry.pause(miss).await?,
            }
        };
        drop(writer);
        let snapshot = meter.snapshot();
        let id = snapshot.transfer_id.parse().unwrap_or(self.id);
        Ok(done.outcome(id, &snapshot.transport, crate::runtime::source::Remarks::default()))
    }

    async fn attempt(
        &self,
        session: Session,
        root: &Root,
        path: &crate::base::RelPath,
        meter: &Arc<TransferMeter>,
        cancel: &watch::Receiver<bool>,
    ) -> Attempt<Done> {
        let label = session.link.peer().node.to_string();
        let store = TargetStore::open(
            Arc::clone(&root.tree),
            root.index.clone(),
            path,
            StoreOptions {
                transfer_id: self.id,
                source: label.clone(),
                checksum: self.options.checksum,
                plan: false,
                planted: crate::runtime::target::Planted::default(),
            },
        );
        let store = store.map_err(|f| Miss::Final(refused("this node", &f.code, &f.detail)))?;
        let request = Open {
            operation: Operation::Pull,
            transfer_id: store.transfer_id(),
            path: self.source.path.clone(),
            checksum: self.options.checksum,
        };
        let accept = open(&session, request, &label).await?;
        meter.set_id(accept.transfer_id);
        tracing::info!(transfer = %accept.transfer_id, peer = %label, "pulling");
        let context = Context {
            link: session.link.clone(),
            slab: self.engine.0.slab.clone(),
            meter: Arc::clone(meter),
            cancel: cancel.clone(),
        };
        let ended = run_target(context, Arc::new(store), Task::Receive).await;
        let reason = match &ended {
            Ok(TargetEnd::Published(..)) => "done",
            Ok(TargetEnd::Stopped(_)) => "stopped",
            Err(_) => "interrupted",
        };
        session.link.close(reason).await;
        match ended {
            Ok(TargetEnd::Published(published, failed)) => Ok(Done { published, failed }),
            Ok(TargetEnd::Stopped(why)) => Err(stop(why, &label)),
            Err(why) => Err(lost(why, &label)),
        }
    }
}
