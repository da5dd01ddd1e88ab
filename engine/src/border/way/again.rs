//! What was decided about a session is decided anew while it runs.

use std::sync::Arc;

use super::Way;
use crate::border::ask::Denied;
use crate::border::gate::{Label, now};
use crate::border::session::State;
use crate::policy::Verdict;

impl Way {
    /// Whether content may go on, by policy, roles and class as they are now. To be asked before
    /// each batch. Blocks for the disk where it was decided anew.
    ///
    /// # Errors
    /// It may not, from now on.
    pub fn check(&self) -> Result<(), Denied> {
        let _turn = self.turn();
        let mut state = self.lock();
        let State { ask, request, ledger, stood, denied, labels, purse, seen } = &mut *state;
        *stood = None;
        if let Some(denied) = denied {
            return Err(denied.clone());
        }
        let decision = self.border.judge(ask, request);
        let changes = self.border.changes();
        if changes.config != seen.config || purse.as_ref().is_some_and(|it| it.until <= now().secs)
        {
            seen.config = changes.config;
            match self.border.purse(ask) {
                Ok(fresh) => {
                    let crossed = || ledger.as_ref().map_or(0, |ledger| ledger.crossed().0);
                    let level = purse.take().map_or_else(crossed, |purse| purse.level());
                    *purse = fresh.map(|purse| purse.begin(level));
                }
                Err(why) => {
                    *denied = Some(why.clone());
                    return Err(why);
                }
            }
        }
        let decision = if changes.labels == seen.labels {
            decision
        } else {
            seen.labels = changes.labels;
            let class = labels.as_ref().map(|read| {
                let found = read();
                let found = found.map_err(|error| Denied::unread("labels", &error));
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
            state.stood = None;
        }
        self.check()
    }

    /// Whether the last decision still counts, and grants.
    pub fn stands(&self) -> bool {
        let mut state = self.lock();
        let State { ask, request, ledger, stood, denied, purse, seen, .. } = &mut *state;
        let decision = self.border.judge(ask, request);
        // An answer that is remembered is the same one: the permit was compared with it.
        let same = stood.as_ref().is_some_and(|stood| Arc::ptr_eq(stood, &decision));
        let stands = denied.is_none()
            && *seen == self.border.changes()
            && purse.as_ref().is_none_or(|purse| now().secs < purse.until)
            && decision.verdict == Verdict::Granted
            && (same || ledger.as_ref().is_none_or(|ledger| ledger.covers(ask, &decision)));
        *stood = Some(decision).filter(|_| stands);
        stands
    }
}
