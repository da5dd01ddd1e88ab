//! Lowering a class: one identity proposes, another one approves, and only then it is done.
//!
//! A proposal is a file in the node's home, `policy/lowering/ID`: the signature of the node's audit key
//! as hexadecimal digits, a line feed, and what is signed as JSON.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ask::{Ask, Denied};
use super::gate::{Border, now};
use super::ledger;
use crate::audit::Word;
use crate::base::hex::{hex, unhex};
use crate::base::{Class, RelPath, TransferId};
use crate::config::write_private;
use crate::identity::{AuditKey, AuditSignature, SpiffeId};
use crate::policy::{
    Action, Decision, Principal, Reason, Relabel, Request, TWO_IDENTITIES_RULE, Transport, Verdict,
};

/// How long a proposal waits for a second identity, in seconds: a day.
pub const PROPOSAL_TTL_S: i64 = 86_400;
/// Most proposals that wait.
pub const PROPOSALS_MAX: usize = 64;
/// Largest file of a proposal, in bytes: a path as hexadecimal digits, and some names.
pub(super) const FILE_BYTES_MAX: u64 = 16 << 10;
/// What precedes what is signed; it is no beginning of anything in TLS.
const CONTEXT: &[u8] = b"portway lowering 1\0";

/// A class that is to be lowered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Its name, which both decisions about it have in the audit log.
    pub id: TransferId,
    /// The file or directory, absolute, without its first slash.
    pub path: RelPath,
    /// The class that it has.
    pub from: Class,
    /// The class that it is to have.
    pub to: Class,
    /// The second since 1970 from which on it is over.
    pub until_s: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    id: String,
    who: String,
    path: String,
    from: Class,
    to: Class,
    until_s: i64,
}

/// Why there is no such proposal.
#[derive(Debug, thiserror::Error)]
pub enum ProposalError {
    /// Nothing of this name waits, or not any more.
    #[error("no proposal {0} waits here")]
    Unknown(TransferId),
    /// It waited too long.
    #[error("the proposal {0} is over")]
    Over(TransferId),
    /// The file is not what this node wrote.
    #[error("the proposal {0} was changed since this node signed it")]
    Changed(TransferId),
    /// There are too many.
    #[error("{PROPOSALS_MAX} proposals wait already")]
    Full,
    /// A file or key cannot be used.
    #[error("proposals cannot be kept: {0}")]
    File(String),
}

impl From<io::Error> for ProposalError {
    fn from(error: io::Error) -> Self {
        Self::File(error.to_string())
    }
}

impl Border {
    /// Whether the class of a dataset here may be changed `from` one `to` another, by this node and a
    /// `second` identity, if there is one; recorded either way, under the name `id`.
    ///
    /// # Errors
    /// It may not, or it cannot be recorded.
    pub fn relabel(
        &self,
        id: TransferId,
        (path, from): (&RelPath, &Class),
        to: &Class,
        second: Option<&SpiffeId>,
    ) -> Result<(), Denied> {
        let ask = self.relabelling(id, path, from);
        let relabel = Relabel { class: to.clone(), second: second.map(Principal::from) };
        let decision = self.decide(&Request { relabel: Some(relabel), ..ask.request() });
        let decision = with(&decision, to, second);
        let log = self.log()?;
        ledger::decided(&log, &ask, &decision)?;
        match decision.verdict {
            Verdict::Granted => Ok(()),
            Verdict::Denied => Err(Denied::of(&decision)),
        }
    }

    fn relabelling(&self, transfer: TransferId, path: &RelPath, class: &Class) -> Ask {
        let us = self.ourselves();
        Ask {
            transfer,
            who: us.id.clone(),
            action: Action::Relabel,
            path: path.clone(),
            class: class.clone(),
            link: Word::from(us.id.site.clone()),
            from: us.clone(),
            to: us,
            transport: Transport::None,
            cost_max: None,
            wire_max: None,
        }
    }

    /// Keeps a proposal of this node, and records it: as a denial, since alone it lowers nothing.
    ///
    /// # Errors
    /// It cannot be recorded or kept, or too many wait.
    pub fn propose(&self, proposal: &Proposal) -> Result<(), ProposalError> {
        let now = now().secs;
        let mut waiting = 0;
        for id in self.proposals()? {
            match self.proposal(id) {
                Err(ProposalError::Over(_)) => self.forget(id)?,
                _ => waiting += 1,
            }
        }
        if waiting >= PROPOSALS_MAX {
            return Err(ProposalError::Full);
        }
        let Proposal { id, path, from, to, until_s } = proposal;
        let ask = self.relabelling(*id, path, from);
        let relabel = Some(Relabel { class: to.clone(), second: None });
        let decision = self.decide(&Request { relabel, ..ask.request() });
        let left_s = until_s.saturating_sub(now);
        let why =
            format!("lowering it to {to} is proposed and waits {left_s} s for a second identity");
        let decision = decision.denied_by(TWO_IDENTITIES_RULE, &why);
        let failed = |denied: Denied| ProposalError::File(denied.to_string());
        let log = self.log().map_err(failed)?;
        ledger::decided(&log, &ask, &decision).map_err(failed)?;
        let text = encode(proposal, &self.us().to_string())?;
        let signature = self.audit_key()?.sign(&signed(&text));
        let file = format!("{signature}\n{text}");
        write_private(&self.proposal_file(*id), file.as_bytes())?;
        Ok(())
    }

    /// A proposal of this node that waits.
    ///
    /// # Errors
    /// There is none of this name, it is over, or it was changed.
    pub fn proposal(&self, id: TransferId) -> Result<Proposal, ProposalError> {
        use std::io::Read;
        let mut text = String::new();
        let file = match std::fs::File::open(self.proposal_file(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ProposalError::Unknown(id));
            }
            file => file?,
        };
        file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        let proposal = self.judged(id, &text).ok_or(ProposalError::Changed(id))?;
        if proposal.until_s <= now().secs { Err(ProposalError::Over(id)) } else { Ok(proposal) }
    }

    fn judged(&self, id: TransferId, text: &str) -> Option<Proposal> {
        let (signature, body, who, proposal) = decode(text)?;
        let signed = self.audit_key().ok()?.public().verify(&signed(body), &signature);
        let ours = proposal.id == id && who == self.us().to_string();
        (signed && ours).then_some(proposal)
    }

    /// Takes a proposal away.
    ///
    /// # Errors
    /// The system's.
    pub fn forget(&self, id: TransferId) -> io::Result<()> {
        match std::fs::remove_file(self.proposal_file(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn proposals(&self) -> io::Result<Vec<TransferId>> {
        let names = match std::fs::read_dir(self.home().lowering_dir()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names?,
        };
        let id =
            |name: io::Result<std::fs::DirEntry>| name.ok()?.file_name().to_str()?.parse().ok();
        Ok(names.filter_map(id).collect())
    }

    fn proposal_file(&self, id: TransferId) -> PathBuf {
        self.home().lowering_dir().join(id.to_string())
    }

    fn audit_key(&self) -> Result<AuditKey, ProposalError> {
        let key = AuditKey::load_or_create(&self.home().identity_dir());
        key.map_err(|error| ProposalError::File(error.to_string()))
    }
}

/// What is signed of a proposal that `who` makes.
pub(super) fn encode(proposal: &Proposal, who: &str) -> io::Result<String> {
    let Proposal { id, path, from, to, until_s } = proposal;
    let body = Body {
        id: id.to_string(),
        who: who.to_owned(),
        path: hex(path.as_bytes()),
        from: from.clone(),
        to: to.clone(),
        until_s: *until_s,
    };
    serde_json::to_string(&body).map_err(io::Error::other)
}

/// The signature in a file, what it has to be over, who made the proposal, and the proposal. Nothing
/// of it counts before the signature was judged.
pub(super) fn decode(text: &str) -> Option<(AuditSignature, &str, String, Proposal)> {
    let (signature, text) = text.split_once('\n')?;
    let signature = AuditSignature(unhex(signature)?.try_into().ok()?);
    let Body { id, who, path, from, to, until_s } = serde_json::from_str(text).ok()?;
    let (id, path) = (id.parse().ok()?, RelPath::from_bytes(&unhex(&path)?).ok()?);
    Some((signature, text, who, Proposal { id, path, from, to, until_s }))
}

fn signed(text: &str) -> Vec<u8> {
    [CONTEXT, text.as_bytes()].concat()
}

/// The same decision, whose reason tells the new class, which a record has no field for, and who the
/// second one is.
fn with(decision: &Decision, to: &Class, second: Option<&SpiffeId>) -> Decision {
    let second = second.map(|second| format!("second identity {second}: ")).unwrap_or_default();
    let reason = format!("to {to}: {second}{}", decision.reason.as_str());
    Decision { reason: Reason::new(&reason), ..decision.clone() }
}
