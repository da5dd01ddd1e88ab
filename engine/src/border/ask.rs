//! What is asked of a border, and why it may say no.

use crate::audit::{Place, Word};
use crate::base::{Class, RelPath, TransferId};
use crate::cost::Money;
use crate::identity::SpiffeId;
use crate::policy::{Action, Principal, Request, Side, Transport};

/// Why something may not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The policy, or a rule that no policy lifts.
    #[error("{0}")]
    Policy(String),
    /// The audit log cannot take the record, so nothing may cross.
    #[error("the audit log cannot be written, and without it nothing crosses: {0}")]
    Audit(String),
    /// It would cost more than it may.
    #[error("{0}")]
    Budget(String),
    /// The link may not be used at this hour.
    #[error("{0}")]
    Closed(String),
}

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
    /// The node that the content comes from.
    pub from: SpiffeId,
    /// The node that it goes to.
    pub to: SpiffeId,
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
        self.from.site != self.to.site
    }

    pub(super) fn request(&self) -> Request {
        let side = |id: &SpiffeId| Side { site: id.site.clone(), tier: id.tier };
        Request {
            who: Principal::from(&self.who),
            action: self.action,
            path: self.path.clone(),
            class: self.class.clone(),
            from: side(&self.from),
            to: side(&self.to),
            transport: self.transport,
            relabel: None,
        }
    }

    pub(super) fn places(&self) -> (Place, Place) {
        (Place::from(&self.from), Place::from(&self.to))
    }
}
