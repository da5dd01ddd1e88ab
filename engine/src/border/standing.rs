//! Who may take part in sessions: identities as their certificates say, revocations, and the roles that
//! nodes take from each other.

use std::sync::{Arc, PoisonError};

use super::ask::{Ask, Denied};
use super::gate::{Border, now};
use crate::identity::{AuditKey, Identity, SpiffeId};
use crate::policy::{Decision, Principal, REVOKED_RULE, Request, RolesMark};

/// The id of the rule that ends sessions whose certificates are over.
pub(super) const EXPIRED_RULE: &str = "expired-certificate";

/// Somebody who takes part in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Who, as the certificate says.
    pub id: SpiffeId,
    /// The last second of the certificate, since 1970.
    pub valid_until_s: u64,
}

/// What to do about the roles that another node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// They are newer: take them.
    Take,
    /// They are the same.
    Same,
    /// They are older, or those here cannot be read.
    Stay,
    /// They have the version of those here and are others.
    Fork,
    /// Those here are not older, and signed by this node only.
    Hidden,
}

impl Border {
    /// This node as it takes part in sessions that begin now.
    pub fn ourselves(&self) -> Party {
        Party { id: self.us.clone(), valid_until_s: self.identity().expires_at().as_secs() }
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes up this node's identity as it is now: another certificate is told to the audit log, if
    /// there is one, as the word of its key for the log's. Blocks for the disk then.
    ///
    /// # Errors
    /// The log cannot take it; it goes on with the older word, which stays valid.
    pub fn renew(&self, identity: Identity) -> Result<(), Denied> {
        {
            let mut ours = self.identity.write().unwrap_or_else(PoisonError::into_inner);
            if ours.chain() == identity.chain() {
                return Ok(());
            }
            *ours = identity;
        }
        if !self.home().audit_dir().exists() {
            return Ok(());
        }
        let failed = |e: &dyn std::fmt::Display| Denied::Audit(e.to_string());
        let log = self.log()?;
        let key = AuditKey::load_or_create(&self.home().identity_dir()).map_err(|e| failed(&e))?;
        let attestation = self.identity().attest(key.public()).map_err(|e| failed(&e))?;
        log.attest(now(), attestation).map(drop).map_err(|e| failed(&e))
    }

    /// Whether somebody may take part in sessions at all.
    ///
    /// # Errors
    /// The identity is revoked, or the certificate is over; or the roles cannot be read, so that nobody
    /// knows who is revoked: then nobody but this node itself may.
    pub fn standing(&self, party: &Party) -> Result<(), Denied> {
        self.refresh();
        match self.lapse(&[party]) {
            Some((REVOKED_RULE, why)) => Err(Denied::Revoked(why)),
            Some((_, why)) => Err(Denied::Expired(why)),
            None if party.id == self.us => Ok(()),
            None => self.decider.roles_version().map(drop).map_err(|broken| Denied::by(&broken)),
        }
    }

    /// Why some of these may not take part any more: the rule, and a reason.
    fn lapse(&self, parties: &[&Party]) -> Option<(&'static str, String)> {
        let now = u64::try_from(now().secs).unwrap_or(0);
        if let Some(over) = parties.iter().find(|it| now > it.valid_until_s) {
            return Some((EXPIRED_RULE, format!("the certificate of {} has expired", over.id)));
        }
        let who = parties.iter().map(|it| Principal::from(&it.id));
        let revoked = self.decider.revoked(who)?;
        Some((REVOKED_RULE, format!("{revoked} is revoked")))
    }

    /// Decides what `ask` asks: by policy and roles, and by who still stands behind it.
    pub(super) fn judge(&self, ask: &Ask, request: &Request) -> Arc<Decision> {
        let decision = self.decide(request);
        match self.lapse(&[&ask.from, &ask.to]) {
            None => decision,
            Some((rule, why)) => Arc::new(decision.denied_by(rule, &why)),
        }
    }

    /// The roles here, if the CA signed them: what other nodes are told.
    pub fn roles(&self) -> Option<RolesMark> {
        self.refresh();
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).roles
    }

    /// The version of the roles that count here; 0 where nothing was ever granted, or they cannot be
    /// read.
    pub fn roles_version(&self) -> u64 {
        self.refresh();
        self.decider.roles_version().unwrap_or(0)
    }

    /// What to do about the roles of another node.
    pub fn follows(&self, theirs: RolesMark) -> Follow {
        let ours = self.roles();
        // None can be taken in place of what cannot be read.
        let Ok(version) = self.decider.roles_version() else { return Follow::Stay };
        match ours {
            _ if theirs.version > version => Follow::Take,
            Some(ours) if ours == theirs => Follow::Same,
            Some(ours) if ours.version == theirs.version => Follow::Fork,
            None if version > 0 => Follow::Hidden,
            _ => Follow::Stay,
        }
    }
}
