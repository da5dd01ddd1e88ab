//! What is known of one session: what was asked, what crossed, and why nothing more may.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::ask::{Ask, Denied};
use super::gate::Label;
use super::ledger::{Ledger, Total};
use super::looked::Changes;
use super::purse::Purse;
use crate::audit::{Account, Ending};
use crate::base::Digest;
use crate::identity::SpiffeId;
use crate::policy::{Decision, Request};

/// What a way and its border know of a session.
pub(super) struct Session {
    pub(super) state: Mutex<State>,
    /// Whose turn it is to write records: they go into the log in the order in which they were taken
    /// from the state, which is not locked meanwhile. Taken before the state.
    pub(super) writing: Mutex<()>,
    /// Messages that the link is taking.
    pub(super) flying: watch::Sender<usize>,
}

/// Counts a message as under way for as long as this lives.
pub(super) struct Flying<'a>(&'a watch::Sender<usize>);

impl<'a> Flying<'a> {
    pub(super) fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
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

pub(super) struct State {
    pub(super) ask: Ask,
    pub(super) request: Request,
    /// What crossed; none inside a site.
    pub(super) ledger: Option<Ledger>,
    /// The last decision that the permit was compared with and covers, as long as neither the permit nor
    /// what is asked has changed.
    pub(super) stood: Option<Arc<Decision>>,
    /// Why nothing more may move.
    pub(super) denied: Option<Denied>,
    /// Reads the labels of what is moved, where it is here.
    pub(super) labels: Option<ReadLabels>,
    /// What bounds the cost of what moves, if anything does.
    pub(super) purse: Option<Purse>,
    /// Changes that were taken up.
    pub(super) seen: Changes,
}

/// Reads the labels of what is moved.
type ReadLabels = Box<dyn Fn() -> io::Result<BTreeSet<Label>> + Send>;

impl Session {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
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
            Some(
                Denied::Policy(why)
                | Denied::Unread(why)
                | Denied::Revoked(why)
                | Denied::Expired(why),
            ) => (Ending::Denied, why),
            Some(Denied::Budget(why) | Denied::Unpriced(why)) => (Ending::Budget, why),
            Some(Denied::Closed(why) | Denied::NoDescriptors(why)) => (Ending::Interrupted, why),
            Some(Denied::Audit(_)) | None => (ending, reason.to_owned()),
        };
        let Some(ledger) = state.ledger.take() else { return Ok(None) };
        let (ask, purse) = (state.ask.clone(), state.purse.take());
        drop(state);
        let total = ledger.stop(ending, &reason, root)?;
        if let Some(purse) = purse {
            purse.settle(total.wire)?;
        }
        Ok(Some((ask, ending, total)))
    }
}
