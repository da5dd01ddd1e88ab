//! Who this home is and whom it knows: inviting workloads, the identity as it is now, and sessions with
//! nodes that still belong.

use std::sync::{Arc, PoisonError};

use super::connect::Session;
use super::engine::{Engine, identity_error, unix_now};
use super::{Error, crossing};
use crate::base::{NodeName, SiteName, Tier};
use crate::border::Border;
use crate::config::Endpoint;
use crate::identity::{Expect, Identity, IdentityError};
use crate::transport::Link;

impl Engine {
    /// The same for a workload: a job with an identity and rights of its own, which opens sessions
    /// and accepts none.
    ///
    /// # Errors
    /// As [`Engine::invite`].
    pub async fn invite_workload(
        &self,
        name: NodeName,
        site: SiteName,
        tier: Tier,
    ) -> Result<String, Error> {
        self.admit(super::calls::InviteRequest { name, site, tier, workload: true }).await
    }

    pub(super) async fn admit(
        &self,
        request: super::calls::InviteRequest,
    ) -> Result<String, Error> {
        let session = self.own_serve().await?;
        let reply: super::calls::InviteReply = session.call("invite", &request).await?;
        session.link.close("done").await;
        Ok(reply.token)
    }

    /// The border, if something needed it already.
    pub(super) fn open_border(&self) -> Option<Arc<Border>> {
        self.0.border.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who this node is now: a certificate that is over is renewed first, where this home has the CA.
    pub(super) async fn current_identity(&self) -> Result<Identity, Error> {
        let identity = self.identity()?;
        let over = identity.check(unix_now());
        let Err(error @ IdentityError::Expired { .. }) = over else {
            return over.map(|()| identity).map_err(|e| identity_error(&e));
        };
        if self.has_ca() {
            Ok(self.renew_here().await?.unwrap_or(identity))
        } else {
            Err(identity_error(&error))
        }
    }

    /// A session with the node that listens there, which is not revoked; newer roles are taken from it.
    pub(super) async fn connect_at(
        &self,
        endpoints: &[Endpoint],
        expect: Expect,
        label: &str,
    ) -> Result<Session, Error> {
        let session = self.connect_to(endpoints, expect.clone(), label).await?;
        self.follow(&session, (endpoints, expect, label)).await;
        let border = self.border()?;
        if let Err(denied) = border.standing(&crossing::party(&border, session.link.peer())) {
            session.link.close("refused at the other end").await;
            return Err(crossing::denial(&denied));
        }
        Ok(session)
    }
}
