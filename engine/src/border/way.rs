//! The way of one session's content.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::gate::{Ask, Border, Denied, Label};
use super::ledger::{Ledger, Total, append};
use crate::audit::{Account, Ending, kill};
use crate::base::{Class, Digest, Extent, RelPath};
use crate::identity::SpiffeId;
use crate::policy::{Request, Verdict};
use crate::transport::{Link, LinkError};

/// How often is looked whether a way still stands on which nothing moves.
const STANDS_EVERY: Duration = Duration::from_secs(2);

/// Why a message did not go.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// It may not, or could not be recorded.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The link failed.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// The way of the content of one session, in or out: there is one only for what was granted.
pub struct Way {
    border: Arc<Border>,
    session: Arc<Session>,
}

/// What a way and its border know of a session.
pub(super) struct Session {
    state: Mutex<State>,
    /// Whose turn it is to write records: they go into the log in the order in which they were taken
    /// from the state, which is not locked meanwhile. Taken before the state.
    writing: Mutex<()>,
}

/// A session between sites that is over, and recorded.
#[derive(Debug, Clone)]
pub struct Closed {
    /// How it ended.
    pub ending: Ending,
    /// The other end.
    pub peer: SpiffeId,
    /// This end sent.
    pub outward: bool,
    /// What crossed; none where it could not be summed up.
    pub account: Option<Account>,
}

struct State {
    ask: Ask,
    request: Request,
    /// What crossed; none inside a site.
    ledger: Option<Ledger>,
    /// Why nothing more may move.
    denied: Option<Denied>,
    /// Reads the labels of what is moved, where it is here.
    labels: Option<ReadLabels>,
    /// Changes of labels that were taken up.
    relabelled: u64,
}

/// Reads the labels of what is moved.
type ReadLabels = Box<dyn Fn() -> io::Result<BTreeSet<Label>> + Send>;

impl Way {
    pub(super) fn open(border: Arc<Border>, ask: Ask) -> Result<Self, Denied> {
        border.would(&ask)?;
        let request = ask.request();
        let decision = border.judge(&ask, &request);
        if decision.verdict == Verdict::Denied {
            // A certificate ended just now.
            return Err(Denied::of(&decision));
        }
        if ask.crosses() {
            // The link of an older session may just not have noticed yet that it is dead.
            border.take_over(&ask)?;
        }
        let ledger =
            if ask.crosses() { Some(Ledger::open(border.log()?, &ask, &decision)?) } else { None };
        let (denied, labels, relabelled) = (None, None, border.relabelled());
        let crossing = ledger.as_ref().map(|_| ask.clone());
        let state = State { ask, request, ledger, denied, labels, relabelled };
        let session = Arc::new(Session { state: Mutex::new(state), writing: Mutex::default() });
        if let Some(ask) = crossing {
            border.entered(&ask, &session);
        }
        Ok(Self { border, session })
    }

    /// The turn to write records, before the state is locked.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.session.turn()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.session.lock()
    }

    /// Whether content leaves a site.
    pub fn crosses(&self) -> bool {
        self.lock().ledger.is_some()
    }

    /// What was asked for, and of whom.
    pub(super) fn asked(&self) -> (&Arc<Border>, Ask) {
        (&self.border, self.lock().ask.clone())
    }

    /// The class that counts for what moves.
    pub fn class(&self) -> Class {
        self.lock().ask.class.clone()
    }

    /// From now on the labels that `read` finds are looked at whenever labels are changed here.
    pub fn watch(&self, read: impl Fn() -> io::Result<BTreeSet<Label>> + Send + 'static) {
        self.lock().labels = Some(Box::new(read));
    }

    /// Whether content may go on, by policy, roles and class as they are now. To be asked before
    /// each batch. Blocks for the disk where it was decided anew.
    ///
    /// # Errors
    /// It may not, from now on.
    pub fn check(&self) -> Result<(), Denied> {
        let _turn = self.turn();
        let mut state = self.lock();
        let State { ask, request, ledger, denied, labels, relabelled } = &mut *state;
        if let Some(denied) = denied {
            return Err(denied.clone());
        }
        let decision = self.border.judge(ask, request);
        let changes = self.border.relabelled();
        let decision = if changes == *relabelled {
            decision
        } else {
            *relabelled = changes;
            let class = labels.as_ref().map(|read| {
                let found = read();
                let found =
                    found.map_err(|e| Denied::Policy(format!("labels cannot be read: {e}")));
                found.and_then(|found| self.border.class(found))
            });
            match class {
                Some(Ok(class)) => ask.class = self.border.join(&ask.class, &class),
                Some(Err(why)) => {
                    *denied = Some(why.clone());
                    return Err(why);
                }
                None => {}
            }
            *request = ask.request();
            self.border.judge(ask, request)
        };
        let granted = decision.verdict == Verdict::Granted;
        let mut result = Ok(());
        if let Some(ledger) = ledger
            && !(granted && ledger.covers(ask, &decision))
        {
            result = ledger.again(ask, &decision);
        }
        if !granted {
            result = Err(Denied::of(&decision));
        }
        *denied = result.clone().err();
        result
    }

    /// Content was found that has this label: if it is of a higher class than was asked for, all of
    /// the dataset is, and that is asked. Blocks for the disk then.
    ///
    /// # Errors
    /// The higher class may not move.
    pub fn found(&self, label: Label) -> Result<(), Denied> {
        let class = self.border.class([label])?;
        {
            let mut state = self.lock();
            let joined = self.border.join(&state.ask.class, &class);
            if joined == state.ask.class {
                return Ok(());
            }
            state.ask.class = joined;
            state.request = state.ask.request();
        }
        self.check()
    }

    /// Sends a data message, if content may still go: this is the one place where content leaves.
    /// `extents` is what of the dataset it holds; they are recorded as gone once the link took them.
    ///
    /// # Errors
    /// It may not go, it could not be recorded, or the link failed.
    pub async fn send<L: Link>(
        self: &Arc<Self>,
        link: &L,
        (header, content): (Bytes, Vec<Bytes>),
        extents: &[(RelPath, Extent)],
    ) -> Result<(), SendError> {
        if !self.stands() {
            self.blocking(Self::check).await?;
        }
        // What was handed over may have left, whatever becomes of the link.
        let due = self.note(extents);
        kill::step("send-before");
        let sent = link.send_data(header, content).await;
        kill::step("send-after");
        if due {
            self.blocking(Self::record).await?;
        }
        Ok(sent?)
    }

    /// Notes a part of an object that is about to leave in another form than a data message, if it may.
    /// Blocks for the disk.
    ///
    /// # Errors
    /// It may not, or could not be recorded.
    pub fn leaves(&self, object: &RelPath, extent: Extent) -> Result<(), Denied> {
        self.check()?;
        if self.note(&[(object.clone(), extent)]) { self.record() } else { Ok(()) }
    }

    /// Notes content that arrived, and asks whether more may come.
    ///
    /// # Errors
    /// It may not, or what came could not be recorded.
    pub async fn arrived(self: &Arc<Self>, extents: &[(RelPath, Extent)]) -> Result<(), Denied> {
        let due = self.note(extents);
        if !self.stands() {
            self.blocking(Self::check).await?;
        }
        if due { self.blocking(Self::record).await } else { Ok(()) }
    }

    /// Waits until content may go on no longer, and says why; it is looked at every few seconds,
    /// whether or not anything moves.
    pub async fn falls(self: &Arc<Self>) -> Denied {
        loop {
            tokio::time::sleep(STANDS_EVERY).await;
            if !self.stands()
                && let Err(denied) = self.blocking(Self::check).await
            {
                return denied;
            }
        }
    }

    async fn blocking(
        self: &Arc<Self>,
        work: fn(&Self) -> Result<(), Denied>,
    ) -> Result<(), Denied> {
        let way = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&way)).await;
        done.unwrap_or_else(|_| Err(Denied::Audit("a record was not written".to_owned())))
    }

    /// Whether the last decision still counts, and grants.
    fn stands(&self) -> bool {
        let state = self.lock();
        let decision = self.border.judge(&state.ask, &state.request);
        let covers = |ledger: &Ledger| ledger.covers(&state.ask, &decision);
        state.denied.is_none()
            && state.relabelled == self.border.relabelled()
            && decision.verdict == Verdict::Granted
            && state.ledger.as_ref().is_none_or(covers)
    }

    /// Notes content that moved; true if it is time to record it.
    fn note(&self, extents: &[(RelPath, Extent)]) -> bool {
        let mut state = self.lock();
        let Some(ledger) = &mut state.ledger else { return false };
        extents.iter().fold(false, |due, (object, extent)| due | ledger.note(object, *extent))
    }

    /// Objects of the dataset up to `last`, in its order, are settled: no more of them crosses.
    pub fn settled(&self, last: &RelPath) {
        if let Some(ledger) = &mut self.lock().ledger {
            ledger.settled(last.clone());
        }
    }

    fn record(&self) -> Result<(), Denied> {
        let _turn = self.turn();
        let taken = self.lock().ledger.as_mut().map(|ledger| (ledger.log(), ledger.take()));
        let Some((log, records)) = taken else { return Ok(()) };
        kill::step("progress-before");
        let recorded = append(&log, records).map(drop);
        kill::step("progress-after");
        if let Err(denied) = &recorded {
            self.lock().denied = Some(denied.clone());
        }
        recorded
    }

    /// Records how it ended; `root` is what was published. Nothing moves on it any more. Gives what
    /// there is to sign a receipt for, none inside a site. Blocks for the disk.
    ///
    /// # Errors
    /// It could not be recorded.
    pub fn stop(
        &self,
        ending: Ending,
        reason: &str,
        root: Option<Digest>,
    ) -> Result<Option<Closed>, Denied> {
        let Some((ask, ending, total)) = self.session.stop(ending, reason, root)? else {
            return Ok(None);
        };
        self.border.left(&ask, &self.session);
        let (outward, peer) = ask.other_end(self.border.us());
        let Total { crossing, seq, bytes, left } = total;
        let account = left.map(|left| Account { crossing, seq, bytes, left });
        Ok(Some(Closed { ending, peer: peer.clone(), outward, account }))
    }
}

impl Session {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it: nothing moves any more. Gives none if nothing is recorded of it, or if it was ended.
    pub(super) fn stop(
        &self,
        ending: Ending,
        reason: &str,
        root: Option<Digest>,
    ) -> Result<Option<(Ask, Ending, Total)>, Denied> {
        let _turn = self.turn();
        let mut state = self.lock();
        let over = Denied::Policy("this session is over".to_owned());
        // A denial is what ended it, whatever the caller saw of that.
        let (ending, reason) = match state.denied.replace(over) {
            Some(Denied::Policy(why) | Denied::Revoked(why) | Denied::Expired(why)) => {
                (Ending::Denied, why)
            }
            _ => (ending, reason.to_owned()),
        };
        let Some(ledger) = state.ledger.take() else { return Ok(None) };
        let ask = state.ask.clone();
        drop(state);
        let total = ledger.stop(ending, &reason, root)?;
        Ok(Some((ask, ending, total)))
    }
}
