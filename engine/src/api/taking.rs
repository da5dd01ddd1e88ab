//! A transfer that a peer opened, and in which this node is the target.

use std::sync::Arc;

use super::calls;
use super::connect::NodeLink;
use super::crossing::{self, Ended, known_as, refusal, tell_only};
use super::engine::unix_now;
use super::entering::broken;
use super::server::Shared;
use super::serving::{refuse, send, stopped};
use crate::base::RelPath;
use crate::encode::Compress;
use crate::metrics::{Phase, TransferMeter};
use crate::policy::Action;
use crate::protocol::{Failure, TargetEnd, Task};
use crate::runtime::drive::run_target;
use crate::runtime::root::{Denied, Root, Writer};
use crate::runtime::source::Above;
use crate::runtime::target::{Part, Planted, StoreOptions, TargetStore};
use crate::transport::Link;
use crate::wire::{Accept, Frame, Open, Operation};

impl Shared {
    /// Takes part as the target.
    pub(super) async fn take(
        &self,
        link: &NodeLink,
        open: &Open,
        meter: &Arc<TransferMeter>,
    ) -> Result<String, Failure> {
        let peer = known_as(&self.us, link.peer());
        let plan = open.operation == Operation::Plan;
        if let Err(failure) = self.may_push(link, open).await {
            return refuse(link, failure).await;
        }
        meter.set_phase(Phase::Queued, "an older session to the same path");
        let (writer, store) = match self.store(open, &peer).await {
            Ok(opened) => opened,
            Err(failure) => return refuse(link, failure).await,
        };
        let action = Action::Push;
        let way = match self.enter(link, open, action, store.transfer_id(), None).await {
            Ok(way) => way,
            Err(failure) => return refuse(link, failure).await,
        };
        if let Err(denied) = store.keep_class(&way) {
            return refuse(link, refusal(&denied)).await;
        }
        if let Err(failure) = tell_only(&way, &store, Vec::new()).await {
            return refuse(link, failure).await;
        }
        let accept = Accept {
            transfer_id: store.transfer_id(),
            free_bytes: store.free_bytes(),
            compress: self.engine.0.config.settings.transfer.compress.into(),
            class: None,
            fresh: store.is_fresh(),
        };
        meter.set_id(accept.transfer_id);
        tracing::info!(transfer = %accept.transfer_id, %peer, path = %open.path, plan, "receiving");
        send(link, Frame::Accept(accept)).await?;
        let cancel = self.cancel_for(writer.as_ref().map(|w| w.cancel.clone()));
        let task = if plan { Task::Plan } else { Task::Receive };
        let context = self.context(link, (meter, open), cancel, (Compress::Never, &way));
        let running = Box::pin(run_target(context, store, task));
        let ended = self.engine.0.lanes.run(open.priority, running).await;
        drop(writer);
        let how = match &ended {
            Ok(TargetEnd::Published(published, _)) => Ended::Published(published.root),
            Ok(TargetEnd::Stopped(why)) => Ended::Stopped(why),
            Err(why) => Ended::Lost(why),
        };
        let closed = crossing::end(&way, how).await.filter(|_| !plan);
        self.receipt(link, closed).await;
        match ended {
            Ok(TargetEnd::Published(published, failed)) => {
                let root = published.root;
                tracing::info!(%root, failed = failed.len(), "published");
                Ok("done".to_owned())
            }
            Ok(TargetEnd::Stopped(why)) => Err(stopped(why)),
            Err(lost) => self.lost(link, lost).await,
        }
    }

    /// The right to write to the path that a session asks for, and its staging area there.
    async fn store(
        &self,
        open: &Open,
        peer: &str,
    ) -> Result<(Option<Writer<'_>>, Arc<TargetStore>), Failure> {
        let plan = open.operation == Operation::Plan;
        let part = match &open.parts {
            None => None,
            Some(parts) => {
                let border = self.engine.border().map_err(|e| broken(&e))?;
                Some(self.root.part(&open.path, parts, border)?)
            }
        };
        let path = part.as_ref().map_or(&open.path, Part::held).clone();
        let writer = if plan { None } else { Some(self.writer(&path, peer, &open.path).await?) };
        let options = StoreOptions {
            transfer_id: open.transfer_id,
            source: peer.to_owned(),
            checksum: open.checksum,
            plan,
            part,
            above: Above::of(&self.root.dir),
            basis: open.basis.clone().filter(|path| !Root::is_own(path)),
            near: open.near,
            planted: Planted::default(),
        };
        let root = Arc::clone(&self.root);
        let store = calls::off_thread(move || {
            if options.part.is_some() {
                root.expire_parts(unix_now().as_secs().cast_signed());
            }
            TargetStore::open(Arc::clone(&root.tree), root.index.clone(), &path, options)
        });
        Ok((writer, Arc::new(store.await?)))
    }

    /// The right to write to `path`, which the peer knows as `asked`.
    async fn writer(
        &self,
        path: &RelPath,
        peer: &str,
        asked: &RelPath,
    ) -> Result<Writer<'_>, Failure> {
        self.root.writer(path, peer).await.map_err(|denied| match denied {
            Denied::Failed(failure) => failure,
            Denied::Busy(owner) => {
                let owner = owner.unwrap_or_else(|| "another process".to_owned());
                Failure::new("conflict", format!("{owner} is writing to {asked}"))
            }
        })
    }
}
