//! Lowering a class: proposed by this node, approved by another identity, done by this node.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::calls::{Answer, asked, json, off_thread};
use super::crossing::{self, denial, refusal};
use super::engine::{Engine, canonical, unix_now};
use super::labels::{dataset, label_all};
use super::server::Shared;
use super::{Error, Exit, NodeAddress};
use crate::base::hex::{hex, unhex};
use crate::base::{Class, RelPath, TransferId};
use crate::border::{PROPOSAL_TTL_S, Proposal, ProposalError};
use crate::protocol::Failure;
use crate::runtime::labels::Which;
use crate::runtime::source::Above;
use crate::transport::{Link, Peer};

/// The second identity names what it approves, as the first one proposed it.
#[derive(Serialize, Deserialize)]
pub(super) struct RelabelRequest {
    pub(super) id: String,
    pub(super) path: String,
    pub(super) class: Class,
}

/// What came of it.
#[derive(Serialize, Deserialize)]
pub(super) struct RelabelReply {
    pub(super) from: Class,
    pub(super) labelled: u64,
}

/// A class that was lowered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lowered {
    /// The class that it had.
    pub from: Class,
    /// How many files and directories got the label.
    pub labelled: u64,
}

impl Engine {
    /// Proposes to lower the class of a file or directory of this machine. It is done when another
    /// identity approves, by [`Engine::approve_lowering`], within [`PROPOSAL_TTL_S`]. Blocks.
    ///
    /// # Errors
    /// The class is no lower one, a label above holds it up, or the proposal cannot be recorded and kept.
    pub fn propose_lowering(&self, path: &Path, class: &Class) -> Result<TransferId, Error> {
        let border = self.border()?;
        let from = self.class_of(path)?;
        border.class([Some(class.as_str().as_bytes().to_vec())]).map_err(|it| denial(&it))?;
        let path = canonical(path)?;
        if from == *class || border.join(&from, class) != from {
            let message = format!("{} is {from}, and {class} is no lower class", path.display());
            return Err(Error::new("not-lower", Exit::Usage, message)
                .hint("portway label PATH --class CLASS, without --lower, raises"));
        }
        self.held_up(&path, class)?;
        let until_s = i64::try_from(unix_now().as_secs()).unwrap_or(i64::MAX);
        let until_s = until_s.saturating_add(PROPOSAL_TTL_S);
        let (id, to) = (super::transfer::random_id(), class.clone());
        let proposal = Proposal { id, path: dataset(&path)?, from, to, until_s };
        border.propose(&proposal).map_err(|error| {
            Error::new("proposal", Exit::Failed, error.to_string())
                .hint("portway status and the log of the node tell whether its home can be written")
        })?;
        Ok(id)
    }

    /// Approves at a node, with this home's identity, what that node proposed: `path` and `class` as
    /// they were proposed there. The node lowers the class and records both identities.
    ///
    /// # Errors
    /// There is no such proposal or it is over, it is about something else, this is the identity that
    /// proposed it, or the node's policy denies it to one of the two.
    pub async fn approve_lowering(
        &self,
        node: &NodeAddress,
        id: TransferId,
        (path, class): (&Path, &Class),
    ) -> Result<Lowered, Error> {
        let session = self.connect(node).await?;
        let path = hex(dataset(path)?.as_bytes());
        let question = RelabelRequest { id: id.to_string(), path, class: class.clone() };
        let reply: RelabelReply = session.call("relabel", &question).await?;
        session.link.close("done").await;
        Ok(Lowered { from: reply.from, labelled: reply.labelled })
    }

    /// Whether a label above keeps the class from being this low.
    fn held_up(&self, path: &Path, class: &Class) -> Result<(), Error> {
        let border = self.border()?;
        let above = Above::of(path).labels().map_err(|error| {
            Error::new("label", Exit::Failed, format!("labels above cannot be read: {error}"))
        })?;
        if above.is_empty() {
            return Ok(());
        }
        let above = border.class(above.into_iter().map(Some)).map_err(|it| denial(&it))?;
        if border.join(&above, class) == *class {
            return Ok(());
        }
        let message = format!("{} lies in a directory that is {above}", path.display());
        Err(Error::new("held-up", Exit::Refused, message)
            .hint("lower the class of that, or move it"))
    }

    /// Does what was proposed here, with `peer` as the second identity. Blocks.
    fn lower(&self, peer: &Peer, request: &RelabelRequest) -> Result<RelabelReply, Failure> {
        let nonsense = || Failure::new("protocol", "no name of a proposal");
        let id: TransferId = request.id.parse().map_err(|_| nonsense())?;
        let border = self.border().map_err(|e| Failure::new(e.code, e.to_string()))?;
        let proposal = border.proposal(id).map_err(|error| match error {
            ProposalError::File(_) => Failure::new("io", "the proposal cannot be read there"),
            error => Failure::new("no-proposal", error.to_string()),
        })?;
        let same = unhex(&request.path).as_deref() == Some(proposal.path.as_bytes());
        if !same || request.class != proposal.to {
            let detail = format!("the proposal {id} is about another path or class");
            return Err(Failure::new("no-proposal", detail));
        }
        let local = |e: Error| Failure::new(e.code, e.message);
        let path = local_path(&proposal.path);
        if canonical(&path).map_err(local)? != path {
            let detail = format!("{} is a link now", path.display());
            return Err(Failure::new("no-proposal", detail));
        }
        let _alone = border.turn_to_label().map_err(|e| Failure::new("io", e.to_string()))?;
        let now = self.class_of(&path).map_err(local)?;
        if now != proposal.from {
            let detail =
                format!("the class was {} when it was proposed, and is {now}", proposal.from);
            return Err(Failure::new("no-proposal", detail));
        }
        self.held_up(&path, &proposal.to).map_err(local)?;
        let second = crossing::party(&border, peer).id;
        border
            .relabel(id, (&proposal.path, &now), &proposal.to, Some(&second))
            .map_err(|denied| refusal(&denied))?;
        // Once: whoever approves again finds nothing.
        border.forget(id).map_err(|e| Failure::new("io", e.to_string()))?;
        let which = Which::HigherUpTo(&proposal.from);
        let labelled = label_all(&border, &path, (&proposal.to, which)).map_err(local)?;
        tracing::info!(%id, path = %path.display(), class = %proposal.to, %second, "a class is lowered");
        Ok(RelabelReply { from: now, labelled })
    }
}

/// Where a dataset of this machine is.
fn local_path(dataset: &RelPath) -> PathBuf {
    Path::new("/").join(std::ffi::OsStr::from_bytes(dataset.as_bytes()))
}

/// Answers `relabel`.
pub(super) async fn relabel(shared: &Arc<Shared>, link: &impl Link, body: &[u8]) -> Answer {
    let request: RelabelRequest = asked(body)?;
    let (shared, peer) = (Arc::clone(shared), link.peer().clone());
    json(&off_thread(move || shared.engine.lower(&peer, &request)).await?)
}
