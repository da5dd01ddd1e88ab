//! Who this home is and whom it knows: inviting workloads, the identity as it is now, and sessions with
//! nodes that still belong.

use std::sync::{Arc, PoisonError};

use super::calls::{
    Answer, InviteReply, InviteRequest, JoinReply, JoinRequest, asked, json, off_thread,
};
use super::connect::{Greet, Session};
use super::engine::{Engine, Inner, identity_error, unix_now};
use super::reachable::reachable;
use super::server::Shared;
use super::{Error, crossing};
use crate::base::{NodeName, SiteName, Tier};
use crate::border::Border;
use crate::config::Endpoint;
use crate::identity::{Expect, INVITE_TTL_S, Identity, IdentityError};
use crate::policy::Kind;
use crate::protocol::Failure;
use crate::transport::{Link, Peer};

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
        (label, greet): (&str, Greet),
    ) -> Result<Session, Error> {
        let session = self.connect_to(endpoints, expect.clone(), (label, greet)).await?;
        self.admitted(&session, (endpoints, expect, label)).await?;
        Ok(session)
    }

    /// Takes newer roles that the peer told of, and looks whether it may have a session, by those.
    pub(super) async fn admitted(
        &self,
        session: &Session,
        at: (&[Endpoint], Expect, &str),
    ) -> Result<(), Error> {
        self.follow(session, at).await;
        let border = self.border()?;
        if let Err(denied) = border.standing(&crossing::party(&border, session.link.peer())) {
            session.link.close("refused at the other end").await;
            return Err(crossing::denial(&denied));
        }
        Ok(())
    }
}

pub(super) async fn invite(shared: &Arc<Shared>, body: &[u8]) -> Answer {
    let request: InviteRequest = asked(body)?;
    let Some(invites) = shared.invites.clone() else {
        return Err(Failure::new("no-ca", "only the node where the trust domain began can invite"));
    };
    let addresses = reachable(shared.listen);
    let shared = Arc::clone(shared);
    let token = off_thread(move || {
        let InviteRequest { name, site, tier, workload } = request;
        fits(&shared, &site, tier)?;
        let kind = if workload { Kind::Workload } else { Kind::Node };
        invites
            .create((name, kind), (site, tier), INVITE_TTL_S, &addresses, unix_now())
            .map_err(|e| Failure::new("invite", e.to_string()))
    });
    json(&InviteReply { token: token.await?.reveal() })
}

/// Refuses a tier that contradicts what this node knows of the site.
fn fits(shared: &Shared, site: &SiteName, tier: Tier) -> Result<(), Failure> {
    let (known, by) = if *site == shared.us.site {
        (Some(shared.us.tier), "this node's certificate")
    } else {
        let Inner { home, config, .. } = &*shared.engine.0;
        // The file may have changed since this node began to serve.
        let config = config.again(home).map_err(|e| Failure::new("config", e.to_string()))?;
        (config.sites.get(site).map(|site| site.tier), "sites in portway.toml")
    };
    match known {
        Some(known) if known != tier => {
            let detail = format!("the site {site} is {known} by {by}, not {tier}");
            Err(Failure::new("site-tier", detail))
        }
        _ => Ok(()),
    }
}

pub(super) async fn join(shared: &Arc<Shared>, key: [u8; 32], body: &[u8]) -> Answer {
    let request: JoinRequest = asked(body)?;
    let request =
        request.der().ok_or_else(|| Failure::new("protocol", "not a certificate request"))?;
    let Some(invites) = shared.invites.clone() else {
        return Err(Failure::new("no-ca", "this node has no CA"));
    };
    let chain_pem = off_thread(move || {
        invites
            .redeem(&key, &request, unix_now())
            .map_err(|e| Failure::new("not-allowed", e.to_string()))
    });
    json(&JoinReply { chain_pem: chain_pem.await? })
}

/// Signs another certificate for who asks.
pub(super) async fn renew(shared: &Arc<Shared>, peer: &Peer, body: &[u8]) -> Answer {
    let request: JoinRequest = asked(body)?;
    let request =
        request.der().ok_or_else(|| Failure::new("protocol", "not a certificate request"))?;
    let Some(invites) = shared.invites.clone() else {
        return Err(Failure::new("no-ca", "this node has no CA"));
    };
    let border = shared.engine.border().map_err(|e| Failure::new(e.code, e.to_string()))?;
    let id = crossing::party(&border, peer).id;
    tracing::info!(%id, "a certificate is renewed");
    let chain_pem = off_thread(move || {
        invites
            .renew(&id, &request, unix_now())
            .map_err(|e| Failure::new("not-allowed", e.to_string()))
    });
    json(&JoinReply { chain_pem: chain_pem.await? })
}
