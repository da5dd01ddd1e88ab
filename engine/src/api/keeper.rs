//! What a process does beside its work as long as it serves or moves something: it renews the
//! certificate of its home when half of its life is over, takes up one that changed on disk, and asks
//! the nodes that it knows for newer roles.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::task::JoinSet;

use super::calls::{JoinReply, JoinRequest};
use super::connect::Greet;
use super::engine::{Engine, identity_error, unix_now};
use super::server::blocking;
use super::{Error, Exit};
use crate::base::NodeName;
use crate::config::{Endpoint, Node, Topic};
use crate::identity::{Expect, Identity, RenewError, Renewal};
use crate::transport::Link;

/// Nodes that are asked in one turn; of more, others in the next turns.
const ASKED_MAX: usize = 32;
/// Parts of a certificate's life in which it is looked at, at least.
const LOOKS: u64 = 8;
/// Longest that one node may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A node that is known: its name, and where it listens.
type Known = (NodeName, Vec<Endpoint>);

impl Engine {
    /// What is wrong with certificate or roles, in words.
    pub(super) fn problems(&self) -> Vec<String> {
        Topic::ALL.into_iter().filter_map(|topic| self.0.home.problem(topic)).collect()
    }

    /// Begins to keep identity and roles fresh, once for each process and home.
    pub(super) fn keep(&self) {
        if self.0.kept.swap(true, Relaxed) {
            return;
        }
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut turn = 0;
            loop {
                let Some(pause) = inner.upgrade().map(|inner| Self(inner).pause()) else { return };
                tokio::time::sleep(pause).await;
                let Some(inner) = inner.upgrade() else { return };
                Self(inner).look_after(turn).await;
                turn += 1;
            }
        });
    }

    /// How long until the next look.
    fn pause(&self) -> Duration {
        let every_s = self.0.config.settings.identity.look_every_s;
        let life = self.identity().map(|identity| {
            let (renews, ends) = (identity.renews_at().as_secs(), identity.expires_at().as_secs());
            2 * ends.saturating_sub(renews) / LOOKS
        });
        Duration::from_secs(every_s.min(life.unwrap_or(every_s)).max(1))
    }

    async fn look_after(&self, turn: usize) {
        let nodes = self.known_nodes(turn);
        if let Err(error) = self.renew_if_due(&nodes).await {
            let text = format!("the certificate is not renewed: {error}");
            let hint =
                if error.hint.is_empty() { String::new() } else { format!(" ({})", error.hint) };
            self.note(Topic::Renewal, Some(&(text + &hint)));
        }
        let mut asked = JoinSet::new();
        for (name, endpoints) in nodes {
            let engine = self.clone();
            asked.spawn(async move { engine.greet(&(name, endpoints)).await });
        }
        asked.join_all().await;
    }

    /// Asks a node for newer roles, if it is known where it listens.
    pub(super) async fn ask_for_roles(&self, node: &NodeName) {
        let nodes = self.nodes_now();
        if let Some(addresses) = nodes.get(node).map(|known| known.addresses.clone()) {
            self.greet(&(node.clone(), addresses)).await;
        }
    }

    /// Greets a node: roles that it has and this one lacks are taken.
    async fn greet(&self, (name, endpoints): &Known) {
        let connected =
            self.connect_at(endpoints, Expect::Node(name.clone()), (name.as_str(), Greet::Wait));
        match tokio::time::timeout(PATIENCE, connected).await {
            Ok(Ok(session)) => session.link.close("done").await,
            Ok(Err(error)) => tracing::debug!(node = %name, %error, "not asked for roles"),
            Err(_) => tracing::debug!(node = %name, "silent when asked for roles"),
        }
    }

    fn nodes_now(&self) -> BTreeMap<NodeName, Node> {
        let again = self.0.config.again(&self.0.home);
        again.map_or_else(|_| self.0.config.nodes.clone(), |config| config.nodes)
    }

    /// The nodes to ask in this turn, as the configuration is now.
    fn known_nodes(&self, turn: usize) -> Vec<Known> {
        let nodes = self.nodes_now();
        let first = if nodes.len() > ASKED_MAX { turn * ASKED_MAX % nodes.len() } else { 0 };
        let count = nodes.len();
        let known = nodes.into_iter().map(|(name, node)| (name, node.addresses));
        let known: Vec<Known> = known.collect();
        known.into_iter().cycle().skip(first).take(count.min(ASKED_MAX)).collect()
    }

    /// Takes up the certificate that lies in the home now, and has it renewed if half of its life is
    /// over.
    async fn renew_if_due(&self, nodes: &[Known]) -> Result<(), Error> {
        let identity = self.identity()?;
        self.take_up(&identity).await;
        if self.0.config.settings.node.certificate.is_some() {
            // Of an existing PKI, whose matter it is.
            identity.check(unix_now()).map_err(|e| identity_error(&e))?;
            self.note(Topic::Renewal, None);
            return Ok(());
        }
        if unix_now() < identity.renews_at() {
            self.note(Topic::Renewal, None);
            return Ok(());
        }
        let Some(renewed) = self.renew(nodes).await? else { return Ok(()) };
        tracing::info!(until_s = renewed.expires_at().as_secs(), "the certificate is renewed");
        self.take_up(&renewed).await;
        self.note(Topic::Renewal, None);
        Ok(())
    }

    /// What this process shows and signs with is this certificate from now on.
    pub(super) async fn take_up(&self, identity: &Identity) {
        if let Some(live) = self.0.live.get() {
            live.renew(identity.clone());
        }
        let (Some(border), identity) = (self.open_border(), identity.clone()) else { return };
        match blocking(move || border.renew(identity)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the audit log does not know the certificate");
            }
            Err(error) => tracing::error!(%error, "the audit log does not know the certificate"),
        }
    }

    /// Renews the certificate: by the CA of this home, or by the node that has it. `None` if another
    /// process is at it.
    async fn renew(&self, nodes: &[Known]) -> Result<Option<Identity>, Error> {
        if self.has_ca() {
            return self.renew_here().await;
        }
        let dir = self.0.home.config_dir().to_owned();
        let begun = blocking(move || Renewal::begin(&dir, unix_now())).await?;
        let Some(renewal) = begun.map_err(|e| failed(&e))? else { return Ok(None) };
        let chain = self.ask_to_renew(nodes, renewal.request()).await?;
        let finished = blocking(move || renewal.finish(&chain, unix_now())).await?;
        finished.map(Some).map_err(|e| failed(&e))
    }

    /// Whether this home has the CA that its own certificate is of.
    pub(super) fn has_ca(&self) -> bool {
        self.0.config.settings.node.certificate.is_none()
            && self.0.home.identity_dir().join("ca.key").exists()
    }

    /// Renews the certificate by the CA of this home. `None` if another process is at it.
    pub(super) async fn renew_here(&self) -> Result<Option<Identity>, Error> {
        let dir = self.0.home.config_dir().to_owned();
        let lifetime_s = self.0.config.settings.identity.lifetime_s;
        let renewed = blocking(move || {
            let Some(renewal) = Renewal::begin(&dir, unix_now())? else { return Ok(None) };
            let chain = renewal.sign_here(lifetime_s, unix_now())?;
            renewal.finish(&chain, unix_now()).map(Some)
        });
        renewed.await?.map_err(|e: RenewError| failed(&e))
    }

    async fn ask_to_renew(&self, nodes: &[Known], request: &[u8]) -> Result<String, Error> {
        let question = JoinRequest::of(request);
        let mut why = Error::new("renewal", Exit::Failed, "no node is known that has the CA")
            .hint("portway nodes add NAME ADDR:PORT, with the node where the trust domain began");
        for (name, endpoints) in nodes {
            let asked = async {
                let expect = Expect::Node(name.clone());
                let session =
                    self.connect_at(endpoints, expect, (name.as_str(), Greet::Wait)).await?;
                let reply: JoinReply = session.call("renew", &question).await?;
                session.link.close("done").await;
                Ok::<_, Error>(reply.chain_pem)
            };
            match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Ok(chain)) => return Ok(chain),
                // It has no CA, and so nothing to say.
                Ok(Err(error)) if error.code == "no-ca" => {}
                Ok(Err(error)) => why = error,
                Err(_) => {
                    why =
                        Error::new("peer-silent", Exit::Failed, format!("{name} does not answer"));
                }
            }
        }
        Err(why)
    }
}

fn failed(error: &RenewError) -> Error {
    Error::new("renewal", Exit::Failed, error.to_string())
        .hint("check the folder of identities, who owns it, and the clock")
}
