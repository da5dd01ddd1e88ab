//! The way of one session's content.

mod again;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::ask::{Ask, Denied};
use super::gate::{Border, Label, now};
use super::ledger::{Ledger, Total, append, decided};
use super::meter::Wire;
use super::purse::Paid;
use super::session::{Closed, Flying, Session, State};
use crate::audit::{Account, Ending, kill};
use crate::base::{Class, Digest, Extent, RelPath};
use crate::policy::{Decision, Reason, Verdict};
use crate::transport::{Link, LinkError, WireMeter};

/// How long another process that has the books is waited for, at a time.
const HELD: Duration = Duration::from_micros(200);

/// Longest that messages on their way are waited for when nothing more may go.
const LANDING: Duration = Duration::from_secs(20);

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

impl Way {
    pub(super) fn open(border: Arc<Border>, ask: Ask) -> Result<Self, Denied> {
        border.would(&ask)?;
        let request = ask.request();
        let decision = border.judge(&ask, &request);
        if decision.verdict == Verdict::Denied {
            // A certificate ended just now.
            return Err(Denied::of(&decision));
        }
        let (denied, labels, seen) = (None, None, border.changes());
        let purse = match border.purse(&ask) {
            Err(why @ (Denied::Budget(_) | Denied::Unpriced(_) | Denied::Closed(_))) => {
                let reason = Reason::new(&why.to_string());
                let denied = Decision { verdict: Verdict::Denied, reason, ..(*decision).clone() };
                let log = border.log()?;
                decided(&log, &ask, &denied)?;
                return Err(why);
            }
            purse => purse?,
        };
        if ask.crosses() {
            // The link of an older session may just not have noticed yet that it is dead.
            border.take_over(&ask)?;
        }
        let ledger =
            if ask.crosses() { Some(Ledger::open(border.log()?, &ask, &decision)?) } else { None };
        let crossing = ledger.as_ref().map(|_| ask.clone());
        let stood = None;
        let state = State { ask, request, ledger, stood, denied, labels, purse, seen };
        let (state, writing, flying) = (Mutex::new(state), Mutex::default(), watch::channel(0).0);
        let session = Arc::new(Session { state, writing, flying });
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

    /// Whose way it is.
    pub fn border(&self) -> &Arc<Border> {
        &self.border
    }

    /// What was asked for.
    pub(super) fn asked(&self) -> Ask {
        self.lock().ask.clone()
    }

    /// The class that counts for what moves.
    pub fn class(&self) -> Class {
        self.lock().ask.class.clone()
    }

    /// Whether what it may move is of a lower class than what has no label.
    pub fn is_below_default(&self) -> bool {
        let (class, default) = (self.class(), self.border.default_class());
        class != default && self.border.join(&class, &default) == default
    }

    /// From now on what this session takes of the wire is recorded. `read` tells what was sent and
    /// received since the session began, and is held until the way ends.
    pub fn measure(&self, read: impl Fn() -> WireMeter + Send + 'static) {
        let mut state = self.lock();
        let State { ask, ledger: Some(ledger), .. } = &mut *state else { return };
        let tariff = self.border.tariff(&ask.link);
        ledger.wire = Some(Wire::new(Box::new(read), tariff));
    }

    /// From now on the labels that `read` finds are looked at whenever labels are changed here.
    pub fn watch(&self, read: impl Fn() -> io::Result<BTreeSet<Label>> + Send + 'static) {
        self.lock().labels = Some(Box::new(read));
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
        let bytes = header.len() + content.iter().map(Bytes::len).sum::<usize>();
        self.may_send(bytes as u64).await?;
        let _flying = Flying::new(&self.session.flying);
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

    /// Waits until the other end has what was sent, within a bound: what is paid for need not be paid
    /// for again, and what a link only took is dropped with the session.
    pub async fn landed<L: Link>(&self, link: &L) {
        let mut flying = self.session.flying.subscribe();
        let landed = async {
            let _ = flying.wait_for(|count| *count == 0).await;
            link.delivered().await;
        };
        let _ = tokio::time::timeout(LANDING, landed).await;
    }

    /// Notes a part of an object that is about to leave in another form than a data message, if it may.
    /// Blocks for the disk.
    ///
    /// # Errors
    /// It may not, or could not be recorded.
    pub fn leaves(&self, object: &RelPath, extent: Extent) -> Result<(), Denied> {
        self.check()?;
        while self.pay_now(extent.len)? == Paid::Later {
            std::thread::sleep(HELD);
        }
        if self.note(&[(object.clone(), extent)]) { self.record() } else { Ok(()) }
    }

    /// Notes content that arrived, and asks whether more may come.
    ///
    /// # Errors
    /// It may not, or what came could not be recorded.
    pub async fn arrived(self: &Arc<Self>, extents: &[(RelPath, Extent)]) -> Result<(), Denied> {
        let due = self.note(extents);
        self.may_come(due).await
    }

    /// Notes content that arrived; what is left to do for it, if anything is: to ask anew whether more may
    /// come, to wait for the books, or to record what is due.
    pub fn takes(
        self: &Arc<Self>,
        extents: &[(RelPath, Extent)],
    ) -> Option<impl Future<Output = Result<(), Denied>> + Send + 'static> {
        let due = self.note(extents);
        if !due && self.stands() && self.pay_now(0) == Ok(Paid::Done) {
            return None;
        }
        let way = Arc::clone(self);
        Some(async move { way.may_come(due).await })
    }

    async fn may_come(self: &Arc<Self>, due: bool) -> Result<(), Denied> {
        if !self.stands() {
            self.blocking(Self::check).await?;
        }
        self.pay(0).await?;
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

    async fn may_send(self: &Arc<Self>, bytes: u64) -> Result<(), Denied> {
        if !self.stands() {
            self.blocking(Self::check).await?;
        }
        self.pay(bytes).await
    }

    /// Pays for `bytes` that are about to be sent, and for what else crossed.
    async fn pay(&self, bytes: u64) -> Result<(), Denied> {
        while self.pay_now(bytes)? == Paid::Later {
            tokio::time::sleep(HELD).await;
        }
        Ok(())
    }

    fn pay_now(&self, bytes: u64) -> Result<Paid, Denied> {
        let mut state = self.lock();
        let State { purse: Some(purse), ledger: Some(ledger), denied, .. } = &mut *state else {
            return Ok(Paid::Done);
        };
        let paid = purse.pay(bytes, ledger.crossed(), now().secs);
        if let Err(why) = &paid {
            *denied = Some(why.clone());
        }
        paid
    }

    async fn blocking(
        self: &Arc<Self>,
        work: fn(&Self) -> Result<(), Denied>,
    ) -> Result<(), Denied> {
        let way = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&way)).await;
        done.unwrap_or_else(|_| Err(Denied::Audit("a record was not written".to_owned())))
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
        let (outward, peer) = ask.other_end(self.border.us());
        let Total { crossing, seq, bytes, left, .. } = total;
        let account = left.map(|left| Account { crossing, seq, bytes, left });
        Ok(Some(Closed { ending, peer: peer.clone(), outward, account }))
    }
}
