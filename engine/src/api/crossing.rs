//! What a session asks of the border, and what it tells it at its end.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::connect::NodeLink;
use super::engine::Engine;
use super::{Error, Exit};
use crate::audit::{Ending, Word};
use crate::base::{Class, Digest, RelPath, TransferId};
use crate::border::{Ask, Border, Denied, Label, Sight, Way};
use crate::identity::SpiffeId;
use crate::policy::{Action, Transport};
use crate::protocol::{Failure, Stop};
use crate::runtime::drive::Lost;
use crate::runtime::source::{SourceFiles, SourceRoot};
use crate::runtime::target::TargetStore;
use crate::storage::{Tree, exists};
use crate::transport::{Link, Peer};

/// What is known of a transfer when it is asked for.
pub(super) struct Wanted<'a> {
    pub(super) transfer: TransferId,
    pub(super) action: Action,
    /// The dataset, below the root of the node that serves it.
    pub(super) path: &'a RelPath,
    pub(super) class: Class,
    /// This node asks; otherwise the peer does.
    pub(super) ours: bool,
    /// This node has the content; otherwise the peer has.
    pub(super) outward: bool,
}

impl Engine {
    /// The question about a transfer over `link`.
    pub(super) fn ask(&self, border: &Border, link: &NodeLink, wanted: Wanted<'_>) -> Ask {
        let transport = if link.has_rails() { Transport::Rdma } else { Transport::Quic };
        self.ask_by(border, (link.peer(), transport), wanted)
    }

    fn ask_by(
        &self,
        border: &Border,
        (peer, transport): (&Peer, Transport),
        wanted: Wanted<'_>,
    ) -> Ask {
        let us = border.us().clone();
        let peer = spiffe_of(&us, peer);
        let (from, to) = if wanted.outward { (&us, &peer) } else { (&peer, &us) };
        let between = self.0.config.link_between(&from.site, &to.site);
        let unnamed = if from.site == to.site { "site" } else { "internet" };
        let name = between.map_or(unnamed, |(name, _)| name).parse();
        Ask {
            transfer: wanted.transfer,
            who: if wanted.ours { us.clone() } else { peer.clone() },
            action: wanted.action,
            path: wanted.path.clone(),
            class: wanted.class,
            from: from.clone(),
            to: to.clone(),
            // The name of a link may be longer than a word of the log.
            link: name.unwrap_or_else(|_| Word::from(to.site.clone())),
            transport,
        }
    }

    /// Whether `peer` may do this with `path`. Labels below it are looked at where all of it is told of,
    /// across the border. Blocks.
    pub(super) fn may_ask(
        &self,
        peer: &Peer,
        action: Action,
        (tree, path): (&Arc<dyn Tree>, &RelPath),
    ) -> Result<(), Failure> {
        let border = self.border().map_err(|e| Failure::new(e.code, e.to_string()))?;
        let root =
            SourceRoot { tree: Arc::clone(tree), path: path.clone(), place: RelPath::root() };
        let all =
            action == Action::Verify && peer.site != border.us().site && exists(&**tree, path);
        let labels = SourceFiles::new(vec![root]).labels(&[], all);
        let labels = labels.map_err(|e| crate::runtime::fatal("look at", path, &e))?;
        let class = border.class(labels).map_err(|denied| refusal(&denied))?;
        let outward = action != Action::Push;
        let wanted = Wanted { transfer: TransferId(0), action, path, class, ours: false, outward };
        let ask = self.ask_by(&border, (peer, Transport::Quic), wanted);
        border.would(&ask).map_err(|denied| refusal(&denied))
    }

    /// What `peer` may do this with, of all that is here; all of it inside a site.
    pub(super) fn sight(&self, peer: &Peer, action: Action) -> Result<Option<Sight>, Failure> {
        let border = self.border().map_err(|e| Failure::new(e.code, e.to_string()))?;
        let (path, class, transfer) = (&RelPath::root(), border.default_class(), TransferId(0));
        let wanted = Wanted { transfer, action, path, class, ours: false, outward: true };
        let ask = self.ask_by(&border, (peer, Transport::Quic), wanted);
        Ok(border.sight(&ask, action))
    }

    /// The way for parts of a file that `peer` reads: a pull like any other. Blocks.
    pub(super) fn way_to_read(
        &self,
        peer: &Peer,
        (tree, path): (&Arc<dyn Tree>, &RelPath),
    ) -> Result<Way, Failure> {
        let border = self.border().map_err(|e| Failure::new(e.code, e.to_string()))?;
        let root =
            SourceRoot { tree: Arc::clone(tree), path: path.clone(), place: RelPath::root() };
        let labels = SourceFiles::new(vec![root]).labels(&[], false);
        let labels = labels.map_err(|e| crate::runtime::fatal("look at", path, &e))?;
        let class = border.class(labels).map_err(|denied| refusal(&denied))?;
        let (transfer, action) = (super::transfer::random_id(), Action::Pull);
        let wanted = Wanted { transfer, action, path, class, ours: false, outward: true };
        let ask = self.ask_by(&border, (peer, Transport::Quic), wanted);
        border.enter(ask).map_err(|denied| refusal(&denied))
    }
}

/// The name under which a node keeps what came from a peer: two sites may each have a node of one name.
pub(super) fn known_as(us: &SpiffeId, peer: &Peer) -> String {
    if peer.site == us.site {
        peer.node.to_string()
    } else {
        format!("{}/{}", peer.site, peer.node)
    }
}

/// The SPIFFE id of a peer: it is of our trust domain, or it would not be here.
fn spiffe_of(us: &SpiffeId, peer: &Peer) -> SpiffeId {
    let Peer { node, site, tier, .. } = peer.clone();
    SpiffeId { domain: us.domain.clone(), tier, site, node }
}

/// Enters, on a thread that may wait for the disk.
pub(super) async fn enter(border: Arc<Border>, ask: Ask) -> Result<Arc<Way>, Denied> {
    blocking(move || border.enter(ask).map(Arc::new)).await
}

/// Whether a transfer would be let through.
pub(super) async fn would(border: Arc<Border>, ask: Ask) -> Result<(), Denied> {
    blocking(move || border.would(&ask)).await
}

/// The class of what has the labels that `read` finds.
pub(super) async fn class(
    border: &Arc<Border>,
    read: impl FnOnce() -> io::Result<BTreeSet<Label>> + Send + 'static,
) -> Result<Class, Error> {
    let border = Arc::clone(border);
    let found = blocking(move || {
        let labels = read().map_err(|e| Denied::Policy(format!("labels cannot be read: {e}")))?;
        border.class(labels)
    });
    found.await.map_err(|denied| denial(&denied))
}

/// Has the store tell the peer of this way only of what it may read; `above` are the labels above the
/// store's tree.
pub(super) async fn tell_only(
    way: &Arc<Way>,
    store: &Arc<TargetStore>,
    above: Vec<Vec<u8>>,
) -> Result<(), Failure> {
    let (way, store) = (Arc::clone(way), Arc::clone(store));
    super::calls::off_thread(move || store.tell_only(&way, above)).await
}

/// How a session ended.
pub(super) enum Ended<'a> {
    Published(Digest),
    Stopped(&'a Stop),
    Lost(&'a Lost),
}

/// Records how a session ended.
pub(super) async fn end(way: &Arc<Way>, ended: Ended<'_>) {
    let failed = |failure: &Failure| {
        let ending = match &*failure.code {
            "denied" => Ending::Denied,
            "stopping" | "link" => Ending::Interrupted,
            _ => Ending::Failed,
        };
        (ending, failure.detail.clone(), None)
    };
    let (ending, why, root) = match ended {
        Ended::Published(root) => (Ending::Complete, "published".to_owned(), Some(root)),
        Ended::Stopped(
            Stop::Refused { failure, .. } | Stop::Violation(failure) | Stop::Local(failure),
        ) => failed(failure),
        Ended::Lost(Lost::Cancelled) => (Ending::Interrupted, "told to stop".to_owned(), None),
        Ended::Lost(Lost::Link(error)) => (Ending::Interrupted, error.to_string(), None),
    };
    let way = Arc::clone(way);
    let stopped = blocking(move || way.stop(ending, &why, root)).await;
    if let Err(error) = stopped {
        tracing::error!(%error, "the end of a session is not recorded");
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Denied> + Send + 'static,
) -> Result<T, Denied> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Denied::Audit(error.to_string())))
}

/// What a denial is to a peer.
pub(super) fn refusal(denied: &Denied) -> Failure {
    match denied {
        Denied::Policy(why) => Failure::new("denied", why.clone()),
        // Why a log cannot be written is not the peer's business.
        Denied::Audit(_) => Failure::new("no-audit", "the audit log there cannot be written"),
    }
}

/// What a denial is to a user here.
pub(super) fn denial(denied: &Denied) -> Error {
    match denied {
        Denied::Policy(why) => Error::new("denied", Exit::Refused, format!("denied here: {why}"))
            .hint("portway policy explain tells what decided; portway label shows the class"),
        Denied::Audit(_) => Error::new("no-audit", Exit::Failed, denied.to_string())
            .hint("nothing else is stopped by this"),
    }
}
