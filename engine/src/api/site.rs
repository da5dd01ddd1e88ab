//! Staging from another site: each file is fetched by one node of this site, and the others have it
//! from there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::calls::{hex, unhex};
use super::connect::Session;
use super::deadline::{Listed, named};
use super::engine::{Engine, canonical};
use super::fetches::{CopyAt, FetchReply, FetchRequest, FileAt, LEASE, Wish};
use super::retry::stopped;
use super::{Error, ListEntry, NodeAddress, Remote, TransferOptions};
use crate::base::{NodeName, RelPath};
use crate::config::ServeRecord;
use crate::policy::Kind;
use crate::transport::Link;

/// Most nodes of the configuration that are asked whether they are of this site, and how long.
const NODES_MAX: usize = 64;
const ASKED: Duration = Duration::from_secs(2);
/// Pauses before the holder of a lease is asked about again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long a node of the site that went away is tried, in seconds.
const RETRY_S: u64 = 5;
/// Copies of a file that are tried before it is fetched from its source.
const COPIES_TRIED: usize = 3;

/// Other nodes of this site, seen by a node that stages from elsewhere.
pub(super) struct Site {
    engine: Engine,
    us: NodeName,
    /// Who keeps the leases: of the nodes of the site that answer, the first by name.
    keeper: Keeper,
    /// Where others find what is staged here: the root that this node serves.
    root: Option<PathBuf>,
}

enum Keeper {
    /// The `serve` of this home.
    Own,
    Node(NodeName),
}

/// Where to get a file.
pub(super) enum From {
    /// From its source, which nobody of the site does meanwhile.
    Source,
    /// From a copy in this site.
    Copy(CopyAt),
}

/// Files that are staged together with other nodes of the site.
pub(super) struct Together {
    pub(super) site: Arc<Site>,
    files: HashMap<RelPath, FileAt>,
}

impl Together {
    /// What is known of a file at its source.
    pub(super) fn file(&self, name: &RelPath) -> Option<&FileAt> {
        self.files.get(name)
    }
}

impl Engine {
    /// What can be staged together with other nodes of this site; `None` where there are none, or where
    /// the source cannot be asked now.
    pub(super) async fn together(
        &self,
        source: &Remote,
        names: &[RelPath],
        options: &TransferOptions,
    ) -> Option<Together> {
        if self.0.config.nodes.len() < 2 {
            return None;
        }
        let session = self.connect_over(&source.node, options.link.as_deref()).await.ok()?;
        let site = self.site(&session).await;
        let files = match &site {
            Some(_) => named(&session, source, names).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let node = session.link.peer().node.to_string();
        session.link.close("done").await;
        let file = |listed: Listed| {
            let name = RelPath::from_bytes(listed.path.as_os_str().as_encoded_bytes()).ok()?;
            let path = hex(source.path.join_path(&name).ok()?.as_bytes());
            let ListEntry { len, mtime_s, digest, .. } = listed.entry;
            Some((name, FileAt { node: node.clone(), path, len, mtime_s, digest }))
        };
        let files = files.into_iter().filter_map(file).collect();
        Some(Together { site: Arc::new(site?), files })
    }

    /// The other nodes of this site, if `source` is not of it; `None` where nobody else is.
    async fn site(&self, source: &Session) -> Option<Site> {
        let us = self.identity().ok()?.id().clone();
        if source.link.peer().site == us.site || us.kind != Kind::Node {
            return None;
        }
        let from = &source.link.peer().node;
        let others = self.0.config.nodes.keys().filter(|name| **name != us.node && *name != from);
        let mut asking = JoinSet::new();
        for name in others.take(NODES_MAX).cloned() {
            let (engine, site) = (self.clone(), us.site.clone());
            asking.spawn(async move {
                let node = NodeAddress::Name(name.clone());
                let session =
                    tokio::time::timeout(ASKED, engine.connect(&node)).await.ok()?.ok()?;
                let peer = session.link.peer();
                let ours = peer.site == site && peer.kind == Kind::Node;
                session.link.close("done").await;
                ours.then_some(name)
            });
        }
        let mut nodes = Vec::new();
        while let Some(asked) = asking.join_next().await {
            nodes.extend(asked.ok().flatten());
        }
        let first = nodes.into_iter().min()?;
        let served = ServeRecord::read(&self.0.home).ok().flatten();
        let root = served.as_ref().and_then(|serve| serve.root.clone());
        let own = served.is_some() && us.node < first;
        let keeper = if own { Keeper::Own } else { Keeper::Node(first) };
        Some(Site { engine: self.clone(), us: us.node, keeper, root })
    }
}

impl Site {
    async fn ask(&self, file: &FileAt, wish: Wish) -> Result<FetchReply, Error> {
        let session = match &self.keeper {
            Keeper::Own => self.engine.own_serve().await?,
            Keeper::Node(name) => self.engine.connect(&NodeAddress::Name(name.clone())).await?,
        };
        let reply = session.call("fetch", &FetchRequest { file: file.clone(), wish }).await;
        session.link.close("done").await;
        reply
    }

    /// Says something of a file, to whom it may concern.
    pub(super) async fn tell(&self, file: &FileAt, wish: Wish) {
        if let Err(error) = self.ask(file, wish).await {
            tracing::debug!(%error, "the keeper of the site's leases does not hear");
        }
    }

    /// Where to get a file; waits while another node of the site fetches it.
    pub(super) async fn find(
        &self,
        file: &FileAt,
        lost: &[CopyAt],
        cancel: &mut watch::Receiver<bool>,
    ) -> From {
        let mut pause = PAUSE.0;
        if lost.len() >= COPIES_TRIED {
            return From::Source;
        }
        loop {
            match self.ask(file, Wish::Get { shares: self.root.is_some() }).await {
                Ok(FetchReply::There(copy)) if !lost.contains(&copy) => return From::Copy(copy),
                Ok(FetchReply::Wait) => {}
                // Without a keeper everybody is alone.
                Ok(FetchReply::Fetch | FetchReply::There(_)) | Err(_) => return From::Source,
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped(cancel) => return From::Source,
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Keeps the lease of a file for as long as this lives.
    pub(super) fn keep(self: &Arc<Self>, file: &FileAt) -> JoinSet<()> {
        let (site, file) = (Arc::clone(self), file.clone());
        let mut keeping = JoinSet::new();
        keeping.spawn(async move {
            loop {
                tokio::time::sleep(LEASE / 3).await;
                site.tell(&file, Wish::Keep).await;
            }
        });
        keeping
    }

    /// Where others find the file `local` of this node, if they can.
    pub(super) fn copy(&self, local: &Path, root: &str) -> Option<CopyAt> {
        let served = canonical(self.root.as_ref()?).ok()?;
        let below = canonical(local).ok()?;
        let below = below.strip_prefix(served).ok()?;
        let path = RelPath::from_bytes(below.as_os_str().as_encoded_bytes()).ok()?;
        let (node, root) = (self.us.clone(), root.to_owned());
        Some(CopyAt { node, path: hex(path.as_bytes()), root })
    }
}

impl CopyAt {
    /// The copy as something to pull.
    pub(super) fn remote(&self) -> Option<Remote> {
        let path = RelPath::from_bytes(&unhex(&self.path)?).ok()?;
        Some(Remote { node: NodeAddress::Name(self.node.clone()), path, into: false })
    }
}

/// How a copy in the site is fetched: what was said of the way to the source does not hold, and a node
/// that went away is not waited for.
pub(super) fn near(options: &TransferOptions) -> TransferOptions {
    let retry_s = Some(options.retry_s.unwrap_or(RETRY_S).min(RETRY_S));
    TransferOptions { link: None, max_cost: None, deadline: None, retry_s, ..options.clone() }
}
