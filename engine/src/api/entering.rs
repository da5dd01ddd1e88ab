//! What a session that a peer opened asks of the border before anything is told.

use std::sync::Arc;

use super::connect::NodeLink;
use super::crossing::{self, Bounds, Wanted, enter, refusal, would};
use super::server::Shared;
use super::{Error, calls};
use crate::base::{RelPath, TransferId};
use crate::border::{Ask, Border, Way};
use crate::policy::Action;
use crate::protocol::Failure;
use crate::runtime::source::SourceFiles;
use crate::transport::{Link, Peer};
use crate::wire::Open;

impl Shared {
    /// What a session that the peer opened asks; `files` are what it would get, or none where it sends.
    async fn asked(
        &self,
        link: &NodeLink,
        open: &Open,
        action: Action,
        transfer: TransferId,
        files: Option<&Arc<SourceFiles>>,
    ) -> Result<(Arc<Border>, Ask), Failure> {
        let border = self.engine.border().map_err(|e| broken(&e))?;
        let crosses = link.peer().site != self.us.site;
        let class = match (files, &open.class) {
            (Some(files), _) => {
                let files = Arc::clone(files);
                crossing::class(&border, move || files.labels(crosses))
                    .await
                    .map_err(|e| broken(&e))?
            }
            (None, Some(class)) => class.clone(),
            (None, None) => border.class([None]).map_err(|denied| refusal(&denied))?,
        };
        let (path, outward) = (&open.path, files.is_some());
        let bounds = Bounds { cost: None, wire: open.wire_max.filter(|_| outward) };
        let wanted = Wanted { transfer, action, path, class, ours: false, outward, bounds };
        let ask = self.engine.ask(&border, link, wanted);
        Ok((border, ask))
    }

    /// The way for a session that the peer opened.
    pub(super) async fn enter(
        &self,
        link: &NodeLink,
        open: &Open,
        action: Action,
        transfer: TransferId,
        files: Option<&Arc<SourceFiles>>,
    ) -> Result<Arc<Way>, Failure> {
        let (border, ask) = self.asked(link, open, action, transfer, files).await?;
        enter(border, ask, link).await.map_err(|denied| refusal(&denied))
    }

    /// Whether the peer may push: asked before anything here is looked at or changed.
    pub(super) async fn may_push(&self, link: &NodeLink, open: &Open) -> Result<(), Failure> {
        let (border, ask) = self.asked(link, open, Action::Push, open.transfer_id, None).await?;
        would(border, ask).await.map_err(|denied| refusal(&denied))
    }

    /// What a peer is told that asks for what is not there: only who might have it learns that.
    pub(super) async fn absent(&self, peer: &Peer, path: &RelPath) -> Failure {
        let (engine, tree) = (self.engine.clone(), Arc::clone(&self.root.tree));
        let (peer, path) = (peer.clone(), path.clone());
        let told = calls::off_thread(move || {
            engine.may_ask(&peer, Action::Pull, (&tree, &path))?;
            Err::<(), _>(Failure::new("not-found", format!("there is no {path}")))
        });
        told.await.err().unwrap_or_else(|| Failure::new("internal", "nothing was told"))
    }
}

pub(super) fn broken(error: &Error) -> Failure {
    Failure::new(error.code, error.to_string())
}
