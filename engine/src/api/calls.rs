//! Small questions between nodes, with JSON answers: list, verify, status, ping, invite, join.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::connect::PROGRAM;
use super::engine::{Engine, clock_ms};
use super::giving::Readings;
use super::members::{invite, join, renew};
use super::server::{Shared, blocking};
use super::{
    Error, Exit, ListEntry, NodeAddress, Remote, VerifyReport, audit, checkpoints, fetches, giving,
    lowering, roles, verify,
};
pub(super) use crate::base::hex::{hex, unhex};
use crate::base::limits::FRAME_BYTES_MAX;
use crate::base::{NodeName, RelPath, SiteName, Tier, human};
use crate::border::Sight;
use crate::metrics::NodeStatus;
use crate::policy::{self, Action};
use crate::protocol::Failure;
use crate::runtime::labels::Around;
use crate::runtime::root::Root;
use crate::runtime::target::Layout;
use crate::storage::{Kind, Meta, Tree};
use crate::transport::{Link, Peer};
use crate::wire::Frame;

/// Longest request for a certificate, in bytes.
const CSR_BYTES_MAX: usize = 8 << 10;
/// Parts of an answer that are found ahead of the link.
const AHEAD: usize = 2;
/// Entries in one part of a listing.
const LIST_PART: usize = 200;

#[derive(Serialize, Deserialize)]
pub(super) struct InviteRequest {
    pub(super) name: NodeName,
    pub(super) site: SiteName,
    pub(super) tier: Tier,
    /// Whether it is for a workload, not a node.
    #[serde(default)]
    pub(super) workload: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct InviteReply {
    pub(super) token: String,
}

/// A request for a certificate, as hexadecimal digits.
#[derive(Serialize, Deserialize)]
pub(super) struct JoinRequest {
    request: String,
}

impl JoinRequest {
    pub(super) fn of(der: &[u8]) -> Self {
        Self { request: hex(der) }
    }

    /// The request (PKCS #10, DER), if it is hexadecimal and not too long.
    pub(super) fn der(&self) -> Option<Vec<u8>> {
        if self.request.len() > 2 * CSR_BYTES_MAX {
            return None;
        }
        unhex(&self.request)
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct JoinReply {
    pub(super) chain_pem: String,
}

/// A path, as hexadecimal digits of its bytes: a name need not be UTF-8.
#[derive(Serialize, Deserialize)]
pub(super) struct PathRequest {
    path: String,
}

impl PathRequest {
    pub(super) fn of(path: &RelPath) -> Self {
        Self { path: hex(path.as_bytes()) }
    }
}

/// Answer to `ping`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pong {
    /// The peer's program and version.
    pub(super) program: String,
    /// Its wall clock, milliseconds since 1970.
    pub(super) clock_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct Empty {}

impl Engine {
    /// What is at a path of a node.
    ///
    /// # Errors
    /// The node cannot be reached, or there is no such path.
    pub async fn list(&self, remote: Remote) -> Result<Vec<ListEntry>, Error> {
        let session = self.connect(&remote.node).await?;
        let question = PathRequest::of(&remote.path);
        let parts: Vec<Vec<ListEntry>> = session.call_parts("list", &question).await?;
        session.link.close("done").await;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Has a node read a published path again and compare it with its manifest.
    ///
    /// # Errors
    /// The node cannot be reached, or no manifest covers the path.
    pub async fn verify_remote(&self, remote: Remote) -> Result<VerifyReport, Error> {
        let session = self.connect(&remote.node).await?;
        let question = PathRequest::of(&remote.path);
        let report = session.call("verify", &question).await?;
        session.link.close("done").await;
        Ok(report)
    }

    /// Reads a local path that a push or pull has published again, and compares.
    ///
    /// # Errors
    /// No manifest covers the path.
    pub async fn verify_local(&self, path: PathBuf) -> Result<VerifyReport, Error> {
        let method = self.0.method();
        blocking(move || verify::local(&path, method)).await?
    }

    /// Transfers of a node, running and recent; `None` asks the `serve` of this home.
    ///
    /// # Errors
    /// The node cannot be reached.
    pub async fn status(&self, node: Option<NodeAddress>) -> Result<NodeStatus, Error> {
        let session = match &node {
            Some(node) => self.connect(node).await?,
            None => self.own_serve().await?,
        };
        let status = session.call("status", &Empty {}).await?;
        session.link.close("done").await;
        Ok(status)
    }
}

/// Whether the peer may ask this of the path that the question names.
async fn may_ask(
    shared: &Arc<Shared>,
    peer: &Peer,
    method: &str,
    body: &[u8],
) -> Result<(), Failure> {
    shared.standing(peer)?;
    let action = match method {
        "list" | "latest" => Action::List,
        "verify" => Action::Verify,
        // `retain` asks for each checkpoint that would go.
        _ => return Ok(()),
    };
    let (shared, peer, path) = (Arc::clone(shared), peer.clone(), asked_path(body)?);
    off_thread(move || shared.engine.may_ask(&peer, action, (&shared.root.tree, &path))).await
}

/// Answers one question; `readings` are the files that the session has open.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    link: &impl Link,
    readings: &Arc<Readings>,
    (method, body): (&str, &[u8]),
) {
    let enrolling = link.peer().enrolling;
    let may = match enrolling {
        None => may_ask(shared, link.peer(), method, body).await,
        Some(_) => Ok(()),
    };
    let answered = match (method, enrolling) {
        _ if may.is_err() => may.map(|()| Vec::new()),
        ("join", Some(key)) => join(shared, key, body).await,
        (_, Some(_)) | ("join", None) => Err(Failure::new("not-allowed", "not with this identity")),
        ("ping", _) => json(&Pong { program: PROGRAM.to_owned(), clock_ms: clock_ms() }),
        // What a workload may know is what its roles say, of datasets. One of a node's name and site is
        // not that node, and no record says which of them it is about.
        ("status" | "audit", _) if link.peer().kind == policy::Kind::Workload => {
            Err(Failure::new("not-allowed", "only nodes may ask for transfers of a node"))
        }
        ("status", _) => json(&shared.status_for(link.peer())),
        ("list", _) => list(shared, link.peer(), body).await,
        ("verify", _) => remote_verify(shared, body).await,
        ("roles", _) => roles::roles(shared).await,
        ("relabel", _) => lowering::relabel(shared, link, body).await,
        ("renew", None) => renew(shared, link.peer(), body).await,
        ("file", _) => giving::file(shared, link.peer(), readings, body).await,
        ("read", _) => return giving::read(shared, link, readings, body).await,
        ("fetch", _) => fetches::fetch(shared, link.peer(), body),
        ("audit", _) => return audit::telling::audit(shared, link, body).await,
        ("latest", _) => checkpoints::latest(shared, link.peer(), body).await,
        ("retain", _) => checkpoints::retain(shared, link.peer(), body).await,
        ("invite", _) if shared.is_own(link.peer()) => invite(shared, body).await,
        ("invite", _) => Err(Failure::new("not-allowed", "only the node itself may invite others")),
        _ => Err(Failure::new("unknown-method", "this node does not know that question")),
    };
    let frames = match answered {
        Ok(parts) => {
            let count = parts.len();
            let part = |(i, body)| Frame::Reply { body, last: i + 1 == count };
            parts.into_iter().enumerate().map(part).collect()
        }
        Err(Failure { code, detail }) => vec![Frame::Refuse { code, detail, retry: false }],
    };
    for frame in frames {
        if link.send(frame.encode()).await.is_err() {
            return;
        }
    }
}

/// Sends an answer whose parts are found meanwhile; `find` gives them, on a thread that may wait, until
/// it is told that nobody wants more.
pub(super) async fn stream(
    link: &impl Link,
    find: impl FnOnce(&dyn Fn(Bytes) -> bool) -> Result<(), Failure> + Send + 'static,
) {
    let (parts, mut ready) = mpsc::channel::<Result<Bytes, Failure>>(AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(failure) = find(&|part| parts.blocking_send(Ok(part)).is_ok()) {
            let _ = parts.blocking_send(Err(failure));
        }
    });
    loop {
        let frame = match ready.recv().await {
            Some(Ok(body)) => Frame::Reply { body, last: false },
            Some(Err(Failure { code, detail })) => Frame::Refuse { code, detail, retry: false },
            None => Frame::Reply { body: Bytes::new(), last: true },
        };
        let ended = !matches!(frame, Frame::Reply { last: false, .. });
        if link.send(frame.encode()).await.is_err() || ended {
            return;
        }
    }
}

pub(super) type Answer = Result<Vec<Bytes>, Failure>;

pub(super) fn json<T: Serialize>(value: &T) -> Answer {
    let body = serde_json::to_vec(value).map_err(|e| Failure::new("internal", e.to_string()))?;
    if body.len() + 64 > FRAME_BYTES_MAX {
        return Err(Failure::new("internal", "the answer is too long for a frame"));
    }
    Ok(vec![body.into()])
}

pub(super) fn asked<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|e| Failure::new("protocol", e.to_string()))
}

pub(super) fn asked_path(body: &[u8]) -> Result<RelPath, Failure> {
    let request: PathRequest = asked(body)?;
    path_of(&request.path)
}

/// A path that a peer may ask about, from hexadecimal digits.
pub(super) fn path_of(text: &str) -> Result<RelPath, Failure> {
    let raw = unhex(text).ok_or_else(|| Failure::new("protocol", "a path is hex"))?;
    let path = RelPath::from_bytes(&raw).map_err(|e| Failure::new("unsafe-path", e.to_string()))?;
    if Root::is_own(&path) {
        return Err(Failure::new("unsafe-path", "that path is portway's own"));
    }
    Ok(path)
}

pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Failure::new("internal", e.to_string())))
}

async fn remote_verify(shared: &Arc<Shared>, body: &[u8]) -> Answer {
    let path = asked_path(body)?;
    let root = Arc::clone(&shared.root);
    let checked = off_thread(move || {
        let _reading = root.readers.begin(&path);
        verify::published(&*root.tree, &path)
    });
    json(&checked.await?)
}

async fn list(shared: &Arc<Shared>, peer: &Peer, body: &[u8]) -> Answer {
    let path = asked_path(body)?;
    let (shared, peer) = (Arc::clone(shared), peer.clone());
    let entries = off_thread(move || {
        let sight = shared.engine.sight(&peer, Action::List)?;
        entries(&*shared.root.tree, &path, sight.as_ref())
    })
    .await?;
    let parts: Vec<&[ListEntry]> = entries.chunks(LIST_PART).collect();
    let parts = if parts.is_empty() { vec![&[][..]] } else { parts };
    let mut bodies = Vec::with_capacity(parts.len());
    for part in parts {
        bodies.extend(json(&part)?);
    }
    Ok(bodies)
}

/// What is at a path, or directly below it, and may be seen.
fn entries(
    tree: &dyn Tree,
    path: &RelPath,
    sight: Option<&Sight>,
) -> Result<Vec<ListEntry>, Failure> {
    let missing = |e| crate::runtime::fatal("list", path, &e);
    let meta = tree.meta(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Failure::new("not-found", format!("there is no {path}")),
        _ => missing(e),
    })?;
    if meta.kind != Kind::Dir {
        let name = path.name().unwrap_or_default();
        return Ok(vec![list_entry(tree, path, name, &meta)]);
    }
    let mut names = tree.list(path).map_err(missing)?;
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let (mut entries, mut around) = (Vec::with_capacity(names.len()), Around::default());
    for (name, _) in names {
        let Ok(below) = path.join(&name) else { continue };
        let seen = sight.is_none_or(|it| around.shows(it, (tree, &[]), &below));
        if Root::is_own(&below) || !seen {
            continue;
        }
        if let Ok(meta) = tree.meta(&below) {
            entries.push(list_entry(tree, &below, &name, &meta));
        }
    }
    Ok(entries)
}

fn list_entry(tree: &dyn Tree, path: &RelPath, name: &[u8], meta: &Meta) -> ListEntry {
    let kind = match meta.kind {
        Kind::File => "file",
        Kind::Dir => "dir",
        Kind::Symlink => "symlink",
        Kind::Fifo | Kind::Socket | Kind::Device => "other",
    };
    ListEntry {
        name: human::escaped(name),
        kind: kind.to_owned(),
        len: if meta.kind == Kind::File { meta.len } else { 0 },
        mode: meta.mode & 0o7777,
        mtime_s: meta.mtime.secs,
        digest: verify::root_of(tree, &Layout::of(path).published).map(|root| root.to_string()),
    }
}

/// A failure of a local question, as the user sees it.
pub(super) fn local_error(failure: &Failure) -> Error {
    let mut error = super::connect::refused("this node", &failure.code, &failure.detail);
    if error.exit == Exit::Interrupted {
        error.exit = Exit::Failed;
    }
    error
}
