//! Looking whether the files have changed that decisions come from, and taking up what they say now.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::gate::Border;
use super::stamps::{Stamps, stamps, unless_moved};
use crate::config::{self, Config, Home};
use crate::identity::Identity;
use crate::policy::{Cause, Decider, RolesMark};

/// How often is looked whether policy, roles or configuration have changed.
const LOOK: Duration = Duration::from_millis(250);

/// What was there when it was looked last.
pub(super) struct Looked {
    at: Instant,
    pub(super) config: Config,
    stamps: Stamps,
    /// A file could not be read, which may pass: the next look tries again, though no stamp changed.
    unread: bool,
    /// The roles, if the CA signed them.
    pub(super) roles: Option<RolesMark>,
    pub(super) changes: Changes,
}

/// What changed since the border was opened, as far as was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// How often labels were changed.
    pub(super) labels: u64,
    /// How often the configuration was read anew.
    pub(super) config: u64,
}

impl Looked {
    /// What is there at first. `config` may have changed since it was read, and no change of a stamp
    /// would tell.
    pub(super) fn first(
        home: &Home,
        config: &Config,
        decider: &Decider,
        identity: &Identity,
    ) -> Self {
        let mut looked = Self {
            at: Instant::now(),
            config: config.clone(),
            stamps: stamps(home, config),
            unread: false,
            roles: None,
            changes: Changes::default(),
        };
        looked.take_up(home, decider, identity);
        looked
    }

    /// Reads everything anew. The stamps are from before.
    fn take_up(&mut self, home: &Home, decider: &Decider, identity: &Identity) {
        let again = self.config.again(home);
        if let Ok(config) = &again {
            self.stamps = unless_moved(std::mem::take(&mut self.stamps), home, config);
            self.config = config.clone();
            self.changes.config += 1;
        }
        let taken = config::refresh(decider, home, again.as_ref(), identity);
        let roles = config::roles_mark(home, identity);
        let tried = self.unread;
        self.unread = roles.is_err() || taken.as_ref().is_err_and(|it| it.cause > Cause::Content);
        self.roles = roles.unwrap_or_default();
        match taken {
            Ok(()) => {
                tracing::info!(version = ?decider.version(), "policy and roles are taken up");
            }
            // Told once, not at each try.
            Err(broken) if tried => {
                tracing::debug!(why = broken.reason.as_str(), "nothing is let through");
            }
            Err(broken) => {
                tracing::error!(why = broken.reason.as_str(), "nothing is let through");
            }
        }
    }
}

impl Border {
    /// Takes up at once what changed.
    pub fn look_again(&self) {
        self.refresh_after(Duration::ZERO);
    }

    /// Takes up changes of the files that decisions come from.
    pub(super) fn refresh(&self) {
        self.refresh_after(LOOK);
    }

    fn refresh_after(&self, pause: Duration) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stage.is_none() && looked.at.elapsed() < pause {
            return;
        }
        looked.at = Instant::now();
        let fresh = stamps(self.home(), &looked.config);
        // The last one says when `portway label` changed something.
        let others = fresh.len().saturating_sub(1);
        let same = !looked.unread && fresh[..others] == looked.stamps[..others];
        looked.changes.labels += u64::from(fresh.last() != looked.stamps.last());
        looked.stamps = fresh;
        if !same {
            looked.take_up(self.home(), &self.decider, &self.identity());
        }
    }
}
