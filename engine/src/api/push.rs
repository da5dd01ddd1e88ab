//! Pushing: this node is the source.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::connect::{NodeLink, Session};
use super::crossing::{self, Bounds, Ended, Wanted, denial, enter, would};
use super::engine::Engine;
use super::lanes::Tools;
use super::plan::SITE;
use super::retry::{Attempt, Miss, Retry};
use super::sources::Sources;
use super::transfer::{Done, farewell, lost, open, stop};
use super::{Error, Outcome, Remote, TransferOptions, rates, receipts};
use crate::base::{Class, TransferId};
use crate::border::Border;
use crate::encode::Compress;
use crate::metrics::TransferMeter;
use crate::policy::Action;
use crate::protocol::{SourceEnd, Stop};
use crate::runtime::drive::{Context, Estimate, run_source};
use crate::runtime::shares::Direction;
use crate::transport::{Link, WireMeter};
use crate::wire::{Accept, Open, Operation};

/// What a session that came to its end has seen.
pub(super) struct Attempted {
    pub(super) done: Done,
    /// Room where the target writes.
    pub(super) free_bytes: u64,
    /// What the session took of the wire, and how the path was.
    pub(super) wire: WireMeter,
    /// The link that it took, if it is known here.
    pub(super) link: Option<String>,
    pub(super) class: Class,
    /// Why it may be moved, in the policy's words.
    pub(super) reason: String,
    /// Whether content was, or would be, encoded.
    pub(super) compress: Compress,
    /// In a plan: what would be sent.
    pub(super) estimate: Option<Arc<Estimate>>,
}

/// The link that a session takes, if it is known here.
pub(super) fn taken(border: &Border, link: &NodeLink) -> Option<String> {
    let peer = link.peer();
    if peer.site == border.us().site {
        return Some(SITE.to_owned());
    }
    border.link_taken(&peer.site, (&peer.node, link.remote()))
}

/// A push from its sources to the published snapshot.
pub(super) struct Push {
    pub(super) engine: Engine,
    pub(super) sources: Vec<PathBuf>,
    pub(super) target: Remote,
    pub(super) options: TransferOptions,
    pub(super) id: TransferId,
}

impl Push {
    /// Looks the sources up.
    pub(super) fn prepare(&self) -> Result<Sources, Error> {
        let whole = self.options.whole || self.options.parts.is_some();
        let method = self.engine.0.method();
        Sources::prepare(&self.sources, &self.target, method, whole)
    }

    /// Runs to the end, over as many sessions as it takes.
    pub(super) async fn run(
        self,
        meter: Arc<TransferMeter>,
        cancel: watch::Receiver<bool>,
    ) -> Result<Outcome, Error> {
        let prepared = self.prepare()?;
        let _lock = rates::lock(&self.engine.0, &self.target.node, &prepared.target)?;
        let node = &self.target.node;
        // Others make way before the first byte wants to leave.
        self.engine.0.share(&self.options).moves(Direction::Out);
        let options =
            TransferOptions { link: self.in_time(&prepared).await?, ..self.options.clone() };
        let started = Instant::now();
        let mut retry = Retry::new(&self.engine, node, &options, &meter, cancel.clone()).ahead();
        let (attempted, remarks) = loop {
            let session = retry.connect().await?;
            let sources = prepared.again();
            match self.attempt(session, &sources, &meter, &cancel).await {
                Ok(attempted) => break (attempted, sources.files.remarks()),
                Err(miss) => retry.pause(miss).await?,
            }
        };
        let Attempted { done, wire, link, .. } = attempted;
        let snapshot = meter.snapshot();
        let link = link.as_deref().unwrap_or("internet");
        rates::note(&self.engine.0, (node, false, link), wire.ip_sent, started.elapsed());
        let id = snapshot.transfer_id.parse().unwrap_or(self.id);
        let mut outcome = done.outcome(id, &snapshot.transport, remarks);
        if let Some(keep) = self.options.keep {
            let whole = self.options.parts.as_ref().and_then(|_| prepared.target.parent());
            let kept = whole.as_ref().unwrap_or(&prepared.target);
            (outcome.removed, outcome.kept) = self.engine.retain(node, kept, keep).await;
        }
        Ok(outcome)
    }

    /// The class of the sources, as far as it counts on the way to this peer.
    async fn class(
        &self,
        border: &Arc<Border>,
        session: &Session,
        sources: &Sources,
    ) -> Result<Class, Error> {
        let crosses = session.link.peer().site != border.us().site;
        let files = Arc::clone(&sources.files);
        crossing::class(border, move || files.labels(crosses)).await
    }

    /// Asks for the transfer; what a late greeting tells counts before anything else is done.
    async fn open(&self, session: &mut Session, request: Open, label: &str) -> Attempt<Accept> {
        let heard = session.heard;
        let accept = open(session, request, label).await?;
        if !heard {
            let at = (&self.target.node, self.options.link.as_deref());
            self.engine.heard_by(session, at).await.map_err(Miss::Unheard)?;
        }
        Ok(accept)
    }

    /// One session: asks, then runs the source until the target has published.
    pub(super) async fn attempt(
        &self,
        mut session: Session,
        sources: &Sources,
        meter: &Arc<TransferMeter>,
        cancel: &watch::Receiver<bool>,
    ) -> Attempt<Attempted> {
        let label = session.link.peer().node.to_string();
        let border = self.engine.border().map_err(Miss::Final)?;
        let class = self.class(&border, &session, sources).await.map_err(Miss::of)?;
        let link = session.link.clone();
        let ask = |transfer| {
            let (action, path) = (Action::Push, &sources.target);
            let class = class.clone();
            let bounds = Bounds { cost: self.options.max_cost, wire: None };
            let wanted =
                Wanted { transfer, action, path, class, ours: true, outward: true, bounds };
            self.engine.ask(&border, &link, wanted)
        };
        if let Err(denied) = would(Arc::clone(&border), ask(self.id)).await {
            session.link.close("denied at the other end").await;
            return Err(Miss::of(denial(&denied)));
        }
        let basis = self.earlier(&border, (&session, &sources.target), &class).await;
        let basis = basis.map_err(Miss::Final)?;
        let operation = if self.options.dry_run { Operation::Plan } else { Operation::Push };
        let request = Open {
            operation,
            transfer_id: self.id,
            path: sources.target.clone(),
            checksum: self.options.checksum,
            rails: session.link.has_rails(),
            compress: Compress::Never,
            limit: self.options.limit,
            class: Some(class.clone()),
            wire_max: None,
            priority: self.options.priority,
            fresh: false,
            parts: self.options.parts.clone().filter(|_| !self.options.dry_run),
            basis: basis.as_ref().map(|basis| basis.at.clone()),
            near: true,
        };
        let accept = self.open(&mut session, request, &label).await?;
        let way = enter(Arc::clone(&border), ask(accept.transfer_id), &session.link).await;
        let way = way.map_err(|denied| Miss::of(denial(&denied)))?;
        sources.files.guard(&way);
        if let Some(basis) = basis {
            basis.serve(&sources.files);
        }
        meter.set_id(accept.transfer_id);
        tracing::info!(transfer = %accept.transfer_id, peer = %label, "pushing");
        let (priority, limit) = (self.options.priority, self.options.limit);
        let Tools { slab, codecs, share } = self.engine.0.tools(priority, limit);
        let _capped = self.engine.0.cap(&session.link, &border.us().site, &share);
        let context = Context {
            link: session.link.clone(),
            slab,
            codecs,
            share,
            compress: accept.compress.and(self.engine.0.compress(&self.options)),
            meter: Arc::clone(meter),
            way: Arc::clone(&way),
            cancel: cancel.clone(),
        };
        let files = Arc::clone(&sources.files);
        let estimate = self.options.dry_run.then(|| {
            let codecs = Arc::clone(&self.engine.0.codecs);
            Arc::new(Estimate::new(codecs))
        });
        let compress = context.compress;
        let ended = run_source(context, files, accept.fresh, estimate.clone()).await;
        let wire = session.link.meter();
        let how = match &ended {
            Ok(SourceEnd::Published(published, _)) => Ended::Published(published.root),
            Ok(SourceEnd::Stopped(why)) => Ended::Stopped(why),
            Err(why) => Ended::Lost(why),
        };
        let closed = crossing::end(&way, how).await.filter(|_| !self.options.dry_run);
        if let Ok(SourceEnd::Stopped(Stop::Local(why))) = &ended {
            crossing::tell(&session.link, why).await;
        }
        let unsigned = receipts::exchange(&border, &session.link, closed).await;
        let reason = farewell(match &ended {
            Ok(SourceEnd::Published(..)) => Ok(None),
            Ok(SourceEnd::Stopped(why)) => Ok(Some(why)),
            Err(why) => Err(why),
        });
        rates::note_path(&self.engine.0, &self.target.node, session.link.carrier().found());
        session.link.close(&reason).await;
        match ended {
            Ok(SourceEnd::Published(published, failed)) => {
                let link = taken(&border, &session.link);
                Ok(Attempted {
                    done: Done { published, failed, unsigned },
                    free_bytes: accept.free_bytes,
                    wire,
                    link,
                    class: way.class(),
                    reason: border.reason(&ask(accept.transfer_id)),
                    compress,
                    estimate,
                })
            }
            Ok(SourceEnd::Stopped(why)) => Err(stop(why, &label)),
            Err(why) => Err(lost(why, &label)),
        }
    }
}
