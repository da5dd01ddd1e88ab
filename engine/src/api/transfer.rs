//! Transfers: started, watched, reconnected until they end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;

use super::connect::{Session, link_error, recv, refused};
use super::engine::Engine;
use super::pull::{Place, Pull};
use super::push::Push;
use super::retry::{Attempt, Miss, interrupted};
use super::{Error, Exit, Outcome, Remote, TransferOptions};
use crate::base::{Priority, TransferId};
use crate::metrics::{Phase, Snapshot, TransferMeter};
use crate::protocol::{FailedObject, Stop};
use crate::runtime::drive::Lost;
use crate::runtime::source::Remarks;
use crate::transport::{Link, LinkError};
use crate::wire::{Accept, Frame, Numbers, Open, Published};

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

pub(super) fn random_id() -> TransferId {
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
        self.start(job.options.priority, ("push", &peer, &path), move |meter, cancel| {
            job.run(meter, cancel)
        })
    }

    /// Starts to pull `source` to the local path `target`; needs a tokio runtime.
    pub fn pull(&self, source: Remote, target: PathBuf, options: TransferOptions) -> Transfer {
        self.pull_into(source, target, options, None)
    }

    /// A pull to a place that is open already, or else is looked for.
    pub(super) fn pull_into(
        &self,
        source: Remote,
        target: PathBuf,
        options: TransferOptions,
        place: Option<Place>,
    ) -> Transfer {
        let (peer, path) = (format!("{}", source.node), target.display().to_string());
        let job = Pull { engine: self.clone(), source, target, options, id: random_id(), place };
        self.start(job.options.priority, ("pull", &peer, &path), move |meter, cancel| {
            job.run(meter, cancel)
        })
    }

    fn start<F>(
        &self,
        priority: Priority,
        (action, peer, path): (&str, &str, &str),
        run: impl FnOnce(Arc<TransferMeter>, watch::Receiver<bool>) -> F,
    ) -> Transfer
    where
        F: Future<Output = Result<Outcome, Error>> + Send + 'static,
    {
        self.keep();
        let meter = TransferMeter::new(action, peer, path);
        let (cancel, cancelled) = watch::channel(false);
        let started = Instant::now();
        let (engine, running) = (self.clone(), run(Arc::clone(&meter), cancelled));
        let watched = Arc::clone(&meter);
        let (end, ended) = watch::channel(None);
        self.0.lanes.spawn(priority, async move {
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

/// What a transfer that published had to say.
pub(super) struct Done {
    pub(super) published: Published,
    pub(super) failed: Vec<FailedObject>,
    /// Why there is no receipt, where there should be one.
    pub(super) unsigned: Option<String>,
}

impl Done {
    /// The report of it.
    pub(super) fn outcome(self, id: TransferId, transport: &str, remarks: Remarks) -> Outcome {
        let Published { root, numbers } = self.published;
        let Numbers { files, sent, deduplicated, resumed, discarded } = numbers;
        let failed_total = remarks.failed_total + self.failed.len() as u64;
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
            failed_total,
            skipped: remarks.skipped.into_iter().map(|r| (r.path, r.reason)).collect(),
            skipped_total: remarks.skipped_total,
            removed: Vec::new(),
            kept: Vec::new(),
            unsigned: self.unsigned,
        }
    }
}

/// Asks for a transfer, hears the peer's greeting if that was not done, and waits for the answer.
pub(super) async fn open(session: &mut Session, open: Open, label: &str) -> Attempt<Accept> {
    let heard = session.heard;
    let failed = |error| Miss::Again(link_error(&error, label));
    let unheard = |error| Miss::Unheard(link_error(&error, label));
    let asked = session.link.send(Frame::Open(open).encode()).await;
    asked.map_err(|error| if heard { failed(error) } else { unheard(error) })?;
    session.hear().await.map_err(unheard)?;
    let link = &session.link;
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

/// The closing words of a session: a peer that broke the protocol is told how.
pub(super) fn farewell(ended: Result<Option<&Stop>, &Lost>) -> String {
    match ended {
        Ok(None) => "done".to_owned(),
        Ok(Some(Stop::Violation(failure))) => failure.detail.clone(),
        Ok(Some(_)) => "stopped".to_owned(),
        Err(Lost::Link(error @ LinkError::Protocol { .. })) => error.to_string(),
        Err(_) => "interrupted".to_owned(),
    }
}

/// What a lost session means.
pub(super) fn lost(lost: Lost, label: &str) -> Miss {
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

/// What an early stop means.
pub(super) fn stop(stop: Stop, label: &str) -> Miss {
    match stop {
        Stop::Refused { failure, retry } => {
            let error = refused(label, &failure.code, &failure.detail);
            // A full disk does not empty itself while we knock.
            if is_over(&failure.code)
                || retry && (failure.code == "stopping" || failure.is_no_descriptors())
            {
                Miss::Again(error)
            } else {
                Miss::Final(error)
            }
        }
        Stop::Violation(failure) => Miss::Final(refused(label, &failure.code, &failure.detail)),
        Stop::Local(failure) => {
            let error = refused("this node", &failure.code, &failure.detail);
            let passes = failure.is_no_descriptors() || is_over(&failure.code);
            if passes { Miss::Again(error) } else { Miss::Final(error) }
        }
    }
}

/// Whether a certificate of the session ended: the next one may begin with a newer one.
fn is_over(code: &str) -> bool {
    code == "expired"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Digest;
    use crate::protocol::Failure;
    use crate::runtime::source::Remark;

    #[test]
    fn all_objects_that_failed_are_counted_though_not_all_are_listed() {
        let failed = |at: u32| FailedObject {
            seq: at,
            path: format!("f{at}"),
            failure: Failure::new("source-changed", "changed while it was read"),
        };
        let published = Published { root: Digest([1; 32]), numbers: Numbers::default() };
        let done = Done { published, failed: (0..900).map(failed).collect(), unsigned: None };
        let unscanned = Remark { path: "dir".to_owned(), reason: "cannot be read".to_owned() };
        let remarks =
            Remarks { failed: vec![unscanned; 200], failed_total: 2_000, ..Remarks::default() };
        let outcome = done.outcome(TransferId(7), "quic", remarks);
        assert_eq!((outcome.failed.len(), outcome.failed_total), (LISTED_MAX, 2_900));
    }
}
