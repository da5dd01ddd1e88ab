//! Checkpoints of a directory: the newest complete one, and those that are kept.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::calls::{Answer, asked, hex, json, off_thread, path_of, unhex};
use super::crossing::known_as;
use super::server::Shared;
use super::{Checkpoint, Engine, Error, Keep, NodeAddress, Remote};
use crate::base::RelPath;
use crate::policy::Action;
use crate::protocol::Failure;
use crate::runtime::labels::Around;
use crate::runtime::snapshots;
use crate::transport::{Link, Peer};

/// Names as hexadecimal digits.
#[derive(Serialize, Deserialize)]
pub(super) struct LatestRequest {
    path: String,
    /// Only what ranks above this name is asked for.
    after: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LatestReply {
    pub(super) name: String,
    pub(super) step: Option<u64>,
    pub(super) root: String,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RetainRequest {
    path: String,
    last: u32,
    every: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RetainReply {
    pub(super) removed: Vec<String>,
    pub(super) in_use: Vec<String>,
    /// Names, and why they could not go.
    #[serde(default)]
    pub(super) kept: Vec<(String, String)>,
}

impl LatestRequest {
    pub(super) fn of(dir: &RelPath, after: Option<&[u8]>) -> Self {
        Self { path: hex(dir.as_bytes()), after: after.map(hex) }
    }
}

impl RetainRequest {
    pub(super) fn of(dir: &RelPath, keep: Keep) -> Self {
        Self { path: hex(dir.as_bytes()), last: keep.last, every: keep.every }
    }
}

impl Engine {
    /// The newest complete checkpoint of a directory: of those that were published as a whole, the
    /// one with the highest step. The step is the last decimal number of a name up to its first
    /// dot; names without one come before all others. `None` if none is complete.
    ///
    /// With `after`, the checkpoint that was found before, only what is newer is looked for; that
    /// reads no manifest where there is nothing new.
    ///
    /// # Errors
    /// `not-found`: there is no such directory. Else as [`Engine::list`].
    pub async fn latest(
        &self,
        dir: &Remote,
        after: Option<&Checkpoint>,
    ) -> Result<Option<Checkpoint>, Error> {
        let session = self.connect(&dir.node).await?;
        let after = after.and_then(|checkpoint| checkpoint.remote.path.name());
        let found: Option<LatestReply> =
            session.call("latest", &LatestRequest::of(&dir.path, after)).await?;
        let label = dir.node.to_string();
        session.link.close("done").await;
        let Some(LatestReply { name, step, root, files, bytes }) = found else { return Ok(None) };
        let path = unhex(&name).and_then(|name| dir.path.join(&name).ok());
        let path = path.ok_or_else(|| {
            super::connect::refused(&label, "protocol", "the name of a checkpoint is not a name")
        })?;
        let remote = Remote { node: dir.node.clone(), path, into: false };
        Ok(Some(Checkpoint { remote, step, root, files, bytes }))
    }

    /// Has the node remove what `keep` lets go beside `target`; names (escaped) of what went, and of what
    /// stays with the reason. The push is done, so what goes wrong here fails nothing: the next one
    /// tries again.
    pub(super) async fn retain(
        &self,
        node: &NodeAddress,
        target: &RelPath,
        keep: Keep,
    ) -> (Vec<String>, Vec<(String, String)>) {
        let Some(dir) = target.parent() else { return Default::default() };
        let asked = async {
            let session = self.connect(node).await?;
            let reply = session.call("retain", &RetainRequest::of(&dir, keep)).await;
            session.link.close("done").await;
            reply
        };
        match asked.await {
            Ok(RetainReply { removed, in_use, kept }) => {
                let in_use = in_use.into_iter().map(|name| (name, "in use".to_owned()));
                (removed, in_use.chain(kept).collect())
            }
            Err(error) => (Vec::new(), vec![(format!("{dir}/"), error.to_string())]),
        }
    }
}

/// Answers `latest`.
pub(super) async fn latest(shared: &Arc<Shared>, peer: &Peer, body: &[u8]) -> Answer {
    let request: LatestRequest = asked(body)?;
    let dir = path_of(&request.path)?;
    let after = request
        .after
        .as_deref()
        .map(|name| unhex(name).ok_or_else(|| Failure::new("protocol", "a name is hex")));
    let after = after.transpose()?;
    let (shared, peer) = (Arc::clone(shared), peer.clone());
    let found = off_thread(move || {
        let sight = shared.engine.sight(&peer, Action::List)?;
        let tree = &*shared.root.tree;
        let mut around = Around::default();
        let may = |path: &RelPath| match &sight {
            Some(sight) => around.shows(sight, (tree, &[]), path),
            None => true,
        };
        snapshots::newest(tree, &dir, after.as_deref(), may)
    })
    .await?;
    json(&found.map(|found| LatestReply {
        name: hex(&found.name),
        step: found.step,
        root: found.root.to_string(),
        files: found.files,
        bytes: found.bytes,
    }))
}

/// Answers `retain`: a node may have removed what came from it, and what it might push there now.
pub(super) async fn retain(shared: &Arc<Shared>, peer: &Peer, body: &[u8]) -> Answer {
    let request: RetainRequest = asked(body)?;
    let dir = path_of(&request.path)?;
    let keep = Keep { last: request.last, every: request.every };
    let (shared, asking) = (Arc::clone(shared), peer.clone());
    let retained = off_thread(move || {
        let (root, source) = (&shared.root, known_as(&shared.us, &asking));
        let may = |path: &RelPath| shared.engine.may_ask(&asking, Action::Push, (&root.tree, path));
        snapshots::retain(root, (&dir, &source), keep, may)
    });
    let snapshots::Retained { removed, in_use, kept } = retained.await?;
    if !removed.is_empty() {
        tracing::info!(peer = %peer.called(), ?removed, "older checkpoints were removed");
    }
    let kept = kept.into_iter().map(|(name, failure)| (name, failure.detail)).collect();
    json(&RetainReply { removed, in_use, kept })
}
