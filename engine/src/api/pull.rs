//! Pulling: this node is the target.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::connect::{Session, refused};
use super::crossing::{self, Bounds, Ended, Wanted, blocking, denial, enter, known_as, tell_only};
use super::engine::{Engine, canonical};
use super::lanes::Tools;
use super::push::taken;
use super::retry::{Attempt, Miss, Retry};
use super::sources::{Landing, local_target};
use super::transfer::{Done, farewell, lost, open, stop};
use super::{Error, Exit, Outcome, Remote, TransferOptions, rates, receipts};
use crate::base::{Class, RelPath, TransferId};
use crate::border::{Ask, Border, Way};
use crate::encode::Compress;
use crate::metrics::TransferMeter;
use crate::policy::Action;
use crate::protocol::{Stop, TargetEnd, Task};
use crate::runtime::drive::{Context, run_target};
use crate::runtime::fatal;
use crate::runtime::root::{Denied, Root};
use crate::runtime::shares::Direction;
use crate::runtime::source::{Above, Remarks};
use crate::runtime::target::{Planted, StoreOptions, TargetStore};
use crate::transport::{Link, WireMeter};
use crate::wire::{Accept, Open, Operation};

/// A pull from the node's path to the published snapshot here.
pub(super) struct Pull {
    pub(super) engine: Engine,
    pub(super) source: Remote,
    pub(super) target: PathBuf,
    pub(super) options: TransferOptions,
    pub(super) id: TransferId,
    /// An open root that holds the target, and where in it; `None` has it looked for.
    pub(super) place: Option<Place>,
}

/// A path below a root that is open.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) root: Arc<Root>,
    pub(super) path: RelPath,
}

/// Opens the root for a local target.
pub(super) fn open_place(engine: &Engine, target: &Path, source: &Remote) -> Result<Place, Error> {
    let Landing { root, path } = local_target(target, source)?;
    let root = Root::open(&canonical(&root)?, engine.0.method()).map_err(|e| {
        Error::new("root", Exit::Failed, e.to_string())
            .hint("a pull writes below the directory that holds its target")
    })?;
    Ok(Place { root: Arc::new(root), path })
}

impl Pull {
    /// Runs to the end, over as many sessions as it takes.
    pub(super) async fn run(
        self,
        meter: Arc<TransferMeter>,
        cancel: watch::Receiver<bool>,
    ) -> Result<Outcome, Error> {
        let Place { root, path } = match &self.place {
            Some(place) => place.clone(),
            None => open_place(&self.engine, &self.target, &self.source)?,
        };
        let owner = self.engine.identity()?.id().node.clone();
        let writer = root.writer(&path, owner.as_str()).await.map_err(|denied| match denied {
            Denied::Failed(failure) => refused("this node", &failure.code, &failure.detail),
            Denied::Busy(_) => {
                let shown = self.target.display();
                Error::new("conflict", Exit::Failed, format!("another transfer writes to {shown}"))
                    .hint("wait for it, or choose another path")
            }
        })?;
        let node = &self.source.node;
        // Others make way before the first byte comes.
        self.engine.0.share(&self.options).moves(Direction::In);
        let way = (&self.source, &*self.target);
        let link = self.engine.pull_in_time(way, None, &self.options).await?;
        let options = TransferOptions { link, ..self.options.clone() };
        let started = Instant::now();
        let mut retry = Retry::new(&self.engine, node, &options, &meter, cancel.clone());
        let (done, link, wire) = loop {
            let session = retry.connect().await?;
            match self.attempt(session, &root, &path, &meter, &cancel).await {
                Ok(done) => break done,
                Err(miss) => retry.pause(miss).await?,
            }
        };
        drop(writer);
        let link = link.as_deref().unwrap_or("internet");
        let received = wire.ip_received;
        rates::note(&self.engine.0, (node, true, link), received, started.elapsed());
        let snapshot = meter.snapshot();
        let id = snapshot.transfer_id.parse().unwrap_or(self.id);
        Ok(done.outcome(id, &snapshot.transport, Remarks::default()))
    }

    fn ask(&self, border: &Border, session: &Session, transfer: TransferId, class: Class) -> Ask {
        let (action, path) = (Action::Pull, &self.source.path);
        let bounds = Bounds { cost: self.options.max_cost, wire: None };
        let wanted = Wanted { transfer, action, path, class, ours: true, outward: false, bounds };
        self.engine.ask(border, &session.link, wanted)
    }

    /// How much the peer may send, if that was bounded.
    async fn wire_max(
        &self,
        session: &Session,
        transfer: TransferId,
    ) -> Result<Option<u64>, Error> {
        if self.options.max_cost.is_none() {
            return Ok(None);
        }
        let border = self.engine.border()?;
        let ask = self.ask(&border, session, transfer, border.default_class());
        blocking(move || border.wire_left(&ask)).await.map_err(|denied| denial(&denied))
    }

    /// The way for what the peer offers: it tells the class.
    async fn enter(&self, session: &Session, accept: &Accept) -> Result<Arc<Way>, Error> {
        let border = self.engine.border()?;
        let class = match &accept.class {
            Some(class) => class.clone(),
            None => border.class([None]).map_err(|denied| denial(&denied))?,
        };
        let ask = self.ask(&border, session, accept.transfer_id, class);
        enter(border, ask, &session.link).await.map_err(|denied| denial(&denied))
    }

    async fn attempt(
        &self,
        mut session: Session,
        root: &Root,
        path: &RelPath,
        meter: &Arc<TransferMeter>,
        cancel: &watch::Receiver<bool>,
    ) -> Attempt<(Done, Option<String>, WireMeter)> {
        let label = session.link.peer().node.to_string();
        let store = TargetStore::open(
            Arc::clone(&root.tree),
            root.index.clone(),
            path,
            StoreOptions {
                transfer_id: self.id,
                source: known_as(
                    self.engine.identity().map_err(Miss::Final)?.id(),
                    session.link.peer(),
                ),
                checksum: self.options.checksum,
                plan: false,
                part: None,
                above: Above::of(&root.dir),
                basis: None,
                near: false,
                planted: Planted::default(),
            },
        );
        let store = Arc::new(store.map_err(|failure| stop(Stop::Local(failure), &label))?);
        let wire_max = match self.wire_max(&session, store.transfer_id()).await {
            Ok(wire_max) => wire_max,
            Err(error) => {
                session.link.close("it may cost nothing more").await;
                return Err(Miss::Final(error));
            }
        };
        let request = Open {
            operation: Operation::Pull,
            transfer_id: store.transfer_id(),
            path: self.source.path.clone(),
            checksum: self.options.checksum,
            rails: session.link.has_rails(),
            compress: self.engine.0.compress(&self.options),
            limit: self.options.limit,
            class: None,
            wire_max,
            priority: self.options.priority,
            basis: None,
            near: false,
            fresh: store.is_fresh(),
            parts: None,
        };
        let accept = open(&mut session, request, &label).await?;
        let way = match self.enter(&session, &accept).await {
            Ok(way) => way,
            Err(error) => {
                session.link.close("denied at the other end").await;
                return Err(Miss::of(error));
            }
        };
        store.keep_class(&way).map_err(|denied| Miss::of(denial(&denied)))?;
        let above = Above::of(&root.dir)
            .labels()
            .map_err(|e| stop(Stop::Local(fatal("look at", &RelPath::root(), &e)), &label))?;
        tell_only(&way, &store, above)
            .await
            .map_err(|failure| stop(Stop::Local(failure), &label))?;
        meter.set_id(accept.transfer_id);
        tracing::info!(transfer = %accept.transfer_id, peer = %label, "pulling");
        let (priority, limit) = (self.options.priority, self.options.limit);
        let Tools { slab, codecs, share } = self.engine.0.tools(priority, limit);
        let context = Context {
            link: session.link.clone(),
            slab,
            codecs,
            share,
            compress: Compress::Never,
            meter: Arc::clone(meter),
            way: Arc::clone(&way),
            cancel: cancel.clone(),
        };
        let ended = run_target(context, store, Task::Receive).await;
        let how = match &ended {
            Ok(TargetEnd::Published(published, _)) => Ended::Published(published.root),
            Ok(TargetEnd::Stopped(why)) => Ended::Stopped(why),
            Err(why) => Ended::Lost(why),
        };
        let border = self.engine.border().map_err(Miss::Final)?;
        let closed = crossing::end(&way, how).await;
        let unsigned = receipts::exchange(&border, &session.link, closed).await;
        let reason = farewell(match &ended {
            Ok(TargetEnd::Published(..)) => Ok(None),
            Ok(TargetEnd::Stopped(why)) => Ok(Some(why)),
            Err(why) => Err(why),
        });
        let (link, wire) = (taken(&border, &session.link), session.link.meter());
        session.link.close(&reason).await;
        match ended {
            Ok(TargetEnd::Published(published, failed)) => {
                Ok((Done { published, failed, unsigned }, link, wire))
            }
            Ok(TargetEnd::Stopped(why)) => Err(stop(why, &label)),
            Err(why) => Err(lost(why, &label)),
        }
    }
}
