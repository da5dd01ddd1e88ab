//! What is asked of a border, and why it may say no.

use std::io;

use super::standing::{EXPIRED_RULE, Party};
use crate::audit::{Place, Word};
use crate::base::{Class, RelPath, TransferId};
use crate::cost::Money;
use crate::identity::SpiffeId;
use crate::policy::{
    Action, Broken, Cause, Decision, NO_DESCRIPTORS_RULE, Principal, REVOKED_RULE, Request, Side,
    Transport,
};
use crate::storage::lacks_descriptors;

/// Why something may not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The policy, or a rule that no policy lifts.
    #[error("{0}")]
    Policy(String),
    /// Something could not be looked at, so nothing is known of its class.
    #[error("{0}")]
    Unread(String),
    /// An identity that takes part is revoked.
    #[error("{0}")]
    Revoked(String),
    /// A certificate with which the session began is over.
    #[error("{0}")]
    Expired(String),
    /// No descriptor is left to look at what would cross, or at what decides. This passes.
    #[error("{0}")]
    NoDescriptors(String),
    /// The audit log cannot take the record, so nothing may cross.
    #[error("the audit log cannot be written, and without it nothing crosses: {0}")]
    Audit(String),
    /// It would cost more than it may.
    #[error("{0}")]
    Budget(String),
    /// What it would cost is bounded, and not known.
    #[error("{0}")]
    Unpriced(String),
    /// The link may not be used at this hour.
    #[error("{0}")]
    Closed(String),
}

impl Denied {
    /// What a decision that does not grant denies by.
    pub(super) fn of(decision: &Decision) -> Self {
        let reason = decision.reason.as_str().to_owned();
        match decision.by.first().map(String::as_str) {
            Some(REVOKED_RULE) => Self::Revoked(reason),
            Some(EXPIRED_RULE) => Self::Expired(reason),
            Some(NO_DESCRIPTORS_RULE) => Self::NoDescriptors(reason),
            _ => Self::Policy(reason),
        }
    }

    /// Nothing decides, and it is not known who is revoked.
    pub(super) fn by(broken: &Broken) -> Self {
        let reason = broken.reason.as_str().to_owned();
        match broken.cause {
            Cause::NoDescriptors => Self::NoDescriptors(reason),
            Cause::Content | Cause::File => Self::Policy(reason),
        }
    }

    /// Labels could not be read: nothing is known of the class, so nothing may move.
    pub fn unread(what: &str, error: &io::Error) -> Self {
        let why = format!("{what} cannot be read: {error}");
        if lacks_descriptors(error) { Self::NoDescriptors(why) } else { Self::Unread(why) }
    }

    /// Its code, for programs and peers.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Policy(_) | Self::Unread(_) => "denied",
            Self::Revoked(_) => "revoked",
            Self::Expired(_) => "expired",
            Self::NoDescriptors(_) => "no-descriptors",
            Self::Audit(_) => "no-audit",
            Self::Budget(_) | Self::Unpriced(_) => "budget",
            Self::Closed(_) => "link-closed",
        }
    }
}

/// Codes of what is denied: of [`Denied::Policy`], [`Denied::Unread`], [`Denied::Revoked`] and
/// [`Denied::Expired`].
pub const DENIALS: [&str; 3] = ["denied", "revoked", "expired"];

/// What somebody wants to move, from where to where.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The transfer.
    pub transfer: TransferId,
    /// Who wants it.
    pub who: SpiffeId,
    /// Push or pull.
    pub action: Action,
    /// The dataset, below the root of the node that serves it.
    pub path: RelPath,
    /// Its class.
    pub class: Class,
    /// Whom the content comes from.
    pub from: Party,
    /// Whom it goes to.
    pub to: Party,
    /// The link between their sites.
    pub link: Word,
    /// What carries it.
    pub transport: Transport,
    /// The most that the transfer may cost, all its sessions together: what this node sends, or on a
    /// pull what it receives.
    pub cost_max: Option<Money>,
    /// The most that the session may send, in bytes on the wire.
    pub wire_max: Option<u64>,
}

impl Ask {
    /// Whether content leaves a site.
    pub(super) fn crosses(&self) -> bool {
        self.from.id.site != self.to.id.site
    }

    pub(super) fn request(&self) -> Request {
        let side = |id: &SpiffeId| Side { site: id.site.clone(), tier: id.tier };
        Request {
            who: Principal::from(&self.who),
            action: self.action,
            path: self.path.clone(),
            class: self.class.clone(),
            from: side(&self.from.id),
            to: side(&self.to.id),
            transport: self.transport,
            relabel: None,
        }
    }

    /// Whether `us` sends, and who is at the other end.
    pub(super) fn other_end(&self, us: &SpiffeId) -> (bool, &SpiffeId) {
        let outward = self.from.id == *us;
        (outward, if outward { &self.to.id } else { &self.from.id })
    }

    pub(super) fn places(&self) -> (Place, Place) {
        (Place::from(&self.from.id), Place::from(&self.to.id))
    }
}
