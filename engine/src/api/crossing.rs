//! What a session asks of the border, and what it tells it at its end.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::connect::NodeLink;
use super::engine::Engine;
use super::{Error, Exit};
use crate::audit::{Ending, Word};
use crate::base::{Class, Digest, RelPath, TransferId};
use crate::border::{Ask, Border, Closed, DENIALS, Denied, Label, Party, Sight, Way};
use crate::cost::Money;
use crate::identity::SpiffeId;
use crate::policy::{Action, Transport};
use crate::protocol::{Failure, Stop};
use crate::runtime::drive::Lost;
use crate::runtime::is_denial;
use crate::runtime::source::{Around, SourceFiles, SourceRoot};
use crate::runtime::target::TargetStore;
use crate::storage::{Tree, exists};
use crate::transport::{Link, Peer};
use crate::wire::Frame;

/// What to do about a budget.
pub(super) const BUDGET_HINT: &str = "raise --max-cost, or the budget in portway.toml (portway cost \
    report shows what is spent); what has arrived is kept, and the same command goes on from there";
/// What to do about a link that is closed.
pub(super) const CLOSED_HINT: &str = "wait until it opens, change its hours in portway.toml, or name \
    another link with --link; what has arrived is kept";

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
    pub(super) bounds: Bounds,
}

/// What a transfer may cost.
#[derive(Clone, Copy, Default)]
pub(super) struct Bounds {
    /// As whoever asks for it says here.
    pub(super) cost: Option<Money>,
    /// As a peer says who asks for it: bytes on the wire.
    pub(super) wire: Option<u64>,
}

impl Engine {
    /// The question about a transfer over `link`.
    pub(super) fn ask(&self, border: &Border, link: &NodeLink, wanted: Wanted<'_>) -> Ask {
        let transport = if link.has_rails() { Transport::Rdma } else { Transport::Quic };
        self.ask_by(border, (link.peer(), transport, link.remote()), wanted)
    }

    fn ask_by(
        &self,
        border: &Border,
        (peer, transport, remote): (&Peer, Transport, Option<SocketAddr>),
        wanted: Wanted<'_>,
    ) -> Ask {
        let us = border.ourselves();
        let peer = party(border, peer);
        let (from, to) = if wanted.outward { (&us, &peer) } else { (&peer, &us) };
        let other = if wanted.outward { to } else { from };
        let between = border.link_taken(&other.id.site, (&other.id.node, remote));
        let unnamed = if from.id.site == to.id.site { "site" } else { "internet" };
        let name = between.as_deref().unwrap_or(unnamed).parse();
        Ask {
            transfer: wanted.transfer,
            who: if wanted.ours { us.id.clone() } else { peer.id.clone() },
            action: wanted.action,
            path: wanted.path.clone(),
            class: wanted.class,
            from: from.clone(),
            to: to.clone(),
            // The name of a link may be longer than a word of the log.
            link: name.unwrap_or_else(|_| Word::from(to.id.site.clone())),
            transport,
            cost_max: wanted.bounds.cost,
            wire_max: wanted.bounds.wire,
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
        let all =
            action == Action::Verify && peer.site != border.us().site && exists(&**tree, path);
        let class =
            border.class(labels_of((tree, path), all)?).map_err(|denied| refusal(&denied))?;
        let outward = action != Action::Push;
        let (transfer, bounds) = (TransferId(0), Bounds::default());
        let wanted = Wanted { transfer, action, path, class, ours: false, outward, bounds };
        let ask = self.ask_by(&border, (peer, Transport::Quic, None), wanted);
        border.would(&ask).map_err(|denied| refusal(&denied))
    }

    /// What `peer` may do this with, of all that is here; all of it inside a site.
    pub(super) fn sight(&self, peer: &Peer, action: Action) -> Result<Option<Sight>, Failure> {
        let border = self.border().map_err(|e| Failure::new(e.code, e.to_string()))?;
        let (path, class, transfer) = (&RelPath::root(), border.default_class(), TransferId(0));
        let bounds = Bounds::default();
        let wanted = Wanted { transfer, action, path, class, ours: false, outward: true, bounds };
        let ask = self.ask_by(&border, (peer, Transport::Quic, None), wanted);
        Ok(border.sight(&ask, action))
    }

    /// The way for parts of a file that `peer` reads: a pull like any other, of this name. Blocks.
    pub(super) fn way_to_read(
        &self,
        peer: &Peer,
        (tree, path): (&Arc<dyn Tree>, &RelPath),
        transfer: TransferId,
    ) -> Result<Way, Failure> {
        let border = self.border().map_err(|e| Failure::new(e.code, e.to_string()))?;
        let class = border.class(labels((tree, path))?).map_err(|denied| refusal(&denied))?;
        let (action, bounds) = (Action::Pull, Bounds::default());
        let wanted = Wanted { transfer, action, path, class, ours: false, outward: true, bounds };
        let ask = self.ask_by(&border, (peer, Transport::Quic, None), wanted);
        border.enter(ask).map_err(|denied| refusal(&denied))
    }
}

/// The labels of a path and of what is above it, up to the root. Blocks.
pub(super) fn labels(place: (&Arc<dyn Tree>, &RelPath)) -> Result<BTreeSet<Label>, Failure> {
    labels_of(place, false)
}

/// The same, with `all` with those below it, too.
fn labels_of(
    (tree, path): (&Arc<dyn Tree>, &RelPath),
    all: bool,
) -> Result<BTreeSet<Label>, Failure> {
    let (tree, path) = (Arc::clone(tree), path.clone());
    let around = Around::default();
    let root = SourceRoot { tree, path: path.clone(), place: RelPath::root(), around };
    let labels = SourceFiles::new(vec![root]).labels(all);
    labels.map_err(|e| crate::runtime::fatal("look at", &path, &e))
}

/// The name under which a node keeps what came from a peer: two sites may each have a node of one name.
pub(super) fn known_as(us: &SpiffeId, peer: &Peer) -> String {
    if peer.site == us.site { peer.called() } else { format!("{}/{}", peer.site, peer.called()) }
}

/// The SPIFFE id of a peer: it is of our trust domain, or it would not be here.
pub(super) fn spiffe_of(us: &SpiffeId, peer: &Peer) -> SpiffeId {
    let Peer { node, kind, site, tier, .. } = peer.clone();
    SpiffeId { domain: us.domain.clone(), tier, site, kind, node }
}

/// A peer as it takes part in a session.
pub(super) fn party(border: &Border, peer: &Peer) -> Party {
    Party { id: spiffe_of(border.us(), peer), valid_until_s: peer.valid_until_s }
}

/// Enters with the content of a session over `link`, on a thread that may wait for the disk.
pub(super) async fn enter(
    border: Arc<Border>,
    ask: Ask,
    link: &NodeLink,
) -> Result<Arc<Way>, Denied> {
    let way = blocking(move || border.enter(ask).map(Arc::new)).await?;
    let link = link.clone();
    way.measure(move || link.meter());
    Ok(way)
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
        let labels = read().map_err(|error| Denied::unread("labels", &error))?;
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

/// Records how a session ended; gives what there is to sign for, between sites.
pub(super) async fn end(way: &Arc<Way>, ended: Ended<'_>) -> Option<Closed> {
    let failed = |failure: &Failure| {
        let ending = match &*failure.code {
            code if DENIALS.contains(&code) => Ending::Denied,
            "budget" => Ending::Budget,
            "stopping" | "link" | "link-closed" => Ending::Interrupted,
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
    stopped.unwrap_or_else(|error| {
        tracing::error!(%error, "the end of a session is not recorded");
        None
    })
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Denied> + Send + 'static,
) -> Result<T, Denied> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Denied::Audit(error.to_string())))
}

/// What to do about what cannot be looked at.
const UNREAD: &str = "let the user who runs portway read it, or move it elsewhere: between sites \
                      nothing moves while the class of a part is unknown";
/// What to do about a link without a price.
const PRICE: &str = "set price_per_gb in [links.NAME] of portway.toml, a link between both sites (portway \
                     limit lists those there are), or leave --max-cost out";
/// What to do about an identity that is revoked.
pub(super) const REVOKED: &str =
    "portway policy roles lists who is revoked; portway grant IDENTITY readmits, where the CA is";
/// What to do about a certificate that is over.
pub(super) const EXPIRED: &str = "a node renews its certificate while it reaches the node with the \
                                  CA: portway doctor there tells why it did not";

/// Tells the peer of a session that the border stopped it here, and why; it would take anything else
/// for a link that was lost.
pub(super) async fn tell(link: &NodeLink, why: &Failure) {
    if is_denial(why) {
        let Failure { code, detail } = why.clone();
        let frame = Frame::Refuse { code, detail, retry: false };
        // One that is gone needs no telling.
        let _ = link.send(frame.encode()).await;
    }
}

/// What a denial is to a peer.
pub(super) fn refusal(denied: &Denied) -> Failure {
    match denied {
        Denied::Policy(why) | Denied::Revoked(why) | Denied::Expired(why) => {
            Failure::new(denied.code(), why.clone())
        }
        // What it is called may be nothing that the peer may know.
        Denied::Unread(_) => {
            Failure::new("denied", "something there cannot be read, so its class is unknown")
        }
        Denied::NoDescriptors(why) => Failure::no_descriptors(why),
        // Why a log cannot be written is not the peer's business.
        Denied::Audit(_) => Failure::new("no-audit", "the audit log there cannot be written"),
        Denied::Budget(why) | Denied::Unpriced(why) => Failure::new("budget", why.clone()),
        Denied::Closed(why) => Failure::new("link-closed", why.clone()),
    }
}

/// What a denial is to a user here.
pub(super) fn denial(denied: &Denied) -> Error {
    match denied {
        Denied::Policy(why) => Error::new("denied", Exit::Refused, format!("denied here: {why}"))
            .hint("portway policy explain tells what decided; portway label shows the class"),
        Denied::Unread(why) => Error::new("denied", Exit::Refused, why.clone()).hint(UNREAD),
        Denied::Revoked(_) => {
            Error::new("revoked", Exit::Refused, denied.to_string()).hint(REVOKED)
        }
        Denied::Expired(_) => {
            Error::new("expired", Exit::Refused, denied.to_string()).hint(EXPIRED)
        }
        Denied::NoDescriptors(why) => Error::new(denied.code(), Exit::Interrupted, why.clone())
            .hint("raise `ulimit -n`; the same command goes on where this one ended"),
        Denied::Audit(_) => Error::new("no-audit", Exit::Failed, denied.to_string())
            .hint("nothing else is stopped by this"),
        Denied::Budget(why) => Error::new("budget", Exit::Refused, why.clone()).hint(BUDGET_HINT),
        Denied::Unpriced(why) => Error::new("budget", Exit::Refused, why.clone()).hint(PRICE),
        Denied::Closed(why) => {
            Error::new("link-closed", Exit::Refused, why.clone()).hint(CLOSED_HINT)
        }
    }
}
