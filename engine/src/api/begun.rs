//! What a session is for that somebody else began, and whether that peer may have one.

use std::sync::Arc;

use super::connect::NodeLink;
use super::crossing::{self, refusal};
use super::entering::broken;
use super::server::Shared;
use super::serving::refuse;
use crate::policy::{Kind, RolesMark};
use crate::protocol::Failure;
use crate::transport::rdma::Ports;
use crate::transport::{Link, Peer};
use crate::wire::Frame;

impl Shared {
    /// One session from its first question on; says how it ended.
    pub(super) async fn begun(
        self: &Arc<Self>,
        link: &NodeLink,
        (told, heard): (Ports, Ports),
        first: Frame,
    ) -> String {
        let peer = link.peer();
        let failed = |failure: Failure| {
            let why = failure.detail;
            tracing::info!(peer = %peer.called(), code = %failure.code, why, "refused");
            why
        };
        if peer.enrolling.is_none()
            && let Err(failure) = self.standing(peer)
        {
            return refuse(link, failure).await.unwrap_or_else(failed);
        }
        match first {
            Frame::Call { method, body } => {
                self.answer_all(link, method, body).await;
                "answered".to_owned()
            }
            Frame::Open(open) if peer.enrolling.is_none() => {
                let link = if open.rails {
                    self.engine.0.with_rails(link, false, told, heard)
                } else {
                    link.clone()
                };
                self.transfer(&link, open).await.unwrap_or_else(failed)
            }
            other => format!("{} is not a beginning", other.name()),
        }
    }

    /// A peer told of its roles: if they are newer, and it listens where this node knows, they are
    /// asked for.
    pub(super) fn hear(&self, peer: &Peer, theirs: Option<RolesMark>) {
        let Some((theirs, border)) = theirs.zip(self.engine.border().ok()) else { return };
        if peer.kind == Kind::Workload || self.is_own(peer) {
            return;
        }
        // Only for what is newer: greetings for anything else would answer each other for ever.
        if self.engine.hears(&border, theirs, peer.node.as_str()) {
            let (engine, node) = (self.engine.clone(), peer.node.clone());
            tokio::spawn(async move { engine.ask_for_roles(&node).await });
        }
    }

    /// Whether a peer may take part in sessions at all.
    pub(super) fn standing(&self, peer: &Peer) -> Result<(), Failure> {
        let border = self.engine.border().map_err(|e| broken(&e))?;
        border.standing(&crossing::party(&border, peer)).map_err(|denied| refusal(&denied))
    }
}
