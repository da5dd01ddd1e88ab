//! Opening a session: resolve, dial, greet; and small questions with JSON answers.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::crossing::{BUDGET_HINT, CLOSED_HINT};
use super::engine::{Inner, clock_ms, unix_now};
use super::{Error, Exit, path, rates};
use crate::base::human;
use crate::config::Endpoint;
use crate::identity::{SpiffeId, peer_of, refusal_text};
use crate::policy::RolesMark;
use crate::transport::quic::{self, QuicConfig, QuicLink, QuicTls};
use crate::transport::rdma::{Ports, RdmaLink, RdmaOptions};
use crate::transport::{Link, LinkError, Peer};
use crate::wire::{Frame, Hello, VERSIONS, negotiate};

/// Program and version, as peers see it.
pub(super) const PROGRAM: &str = concat!("portway/", env!("CARGO_PKG_VERSION"));

/// An authenticated session whose peer speaks our protocol.
pub(super) struct Session {
    pub(super) link: NodeLink,
    /// The ports that the peer was told of.
    told: Ports,
    /// The ports that the peer told of.
    pub(super) rails: Ports,
    /// The roles that the peer told of.
    pub(super) roles: Option<RolesMark>,
    /// The peer's greeting was heard: until then it told of nothing, and may still refuse the
    /// session as a whole.
    pub(super) heard: bool,
    label: String,
}

/// A session between nodes: over QUIC, with rails where both have them.
pub(super) type NodeLink = RdmaLink<QuicLink>;

impl Inner {
    /// What a greeting tells `peer` of this node's ports.
    pub(super) fn offer(&self, us: &SpiffeId, peer: &Peer) -> Ports {
        path::offer(&self.own(us, &self.ports_for(us, peer)), peer)
    }

    /// The ports of this node as far as they matter to a session with `peer`: between sites they do
    /// not, and looking for them takes milliseconds.
    pub(super) fn ports_for(&self, us: &SpiffeId, peer: &Peer) -> Ports {
        if us.site == peer.site { self.ports() } else { Ports::none("") }
    }

    /// The same session with rails between the ports that the greetings told of; `lead` at the
    /// end that dialled. Without ports it stays as it is.
    pub(super) fn with_rails(
        &self,
        link: &NodeLink,
        lead: bool,
        told: Ports,
        heard: Ports,
    ) -> NodeLink {
        let (Ok(verbs), Ports::Usable(mine), Ports::Usable(yours)) = (self.verbs(), told, heard)
        else {
            return link.clone();
        };
        let options = RdmaOptions {
            verbs: Arc::clone(verbs),
            lead,
            mine,
            yours,
            queue_pairs: self.config.settings.rdma.queue_pairs as usize,
            slab: self.slab.clone(),
        };
        RdmaLink::start(link.carrier().clone(), options)
    }
}

/// Our greeting, with the ports that the peer may know of, and our roles.
pub(super) fn our_hello(rails: &Ports, roles: Option<RolesMark>) -> Frame {
    let mut hello = Hello {
        versions: VERSIONS,
        program: PROGRAM.to_owned(),
        clock_ms: clock_ms(),
        rails: Vec::new(),
        no_rails: String::new(),
        roles,
    };
    rails.tell(&mut hello);
    Frame::Hello(hello)
}

/// Reads the peer's greeting and settles on a version.
pub(super) async fn expect_hello<L: Link>(link: &L) -> Result<Hello, LinkError> {
    let protocol = |detail: String| LinkError::Protocol { detail };
    match recv(link).await? {
        Frame::Hello(hello) if negotiate(hello.versions).is_some() => Ok(hello),
        Frame::Hello(Hello { versions: (oldest, newest), program, .. }) => Err(protocol(format!(
            "{} speaks protocol versions {oldest} to {newest}, this build {} to {}",
            human::escaped(program.as_bytes()),
            VERSIONS.0,
            VERSIONS.1
        ))),
        other => Err(protocol(format!("{} came before a greeting", other.name()))),
    }
}

/// The next frame.
pub(super) async fn recv<L: Link>(link: &L) -> Result<Frame, LinkError> {
    let bytes = link.recv().await?;
    Frame::decode(&bytes).map_err(|e| LinkError::Protocol { detail: e.to_string() })
}

async fn resolve(endpoints: &[Endpoint]) -> Result<Vec<SocketAddr>, Error> {
    let mut found = Vec::new();
    let mut failure = None;
    for endpoint in endpoints {
        match endpoint {
            Endpoint::Address(address) => found.push(*address),
            Endpoint::Host(host, port) => {
                match tokio::net::lookup_host((host.as_str(), *port)).await {
                    Ok(addresses) => found.extend(addresses),
                    Err(error) => failure = Some(format!("{host} does not resolve: {error}")),
                }
            }
        }
    }
    match failure {
        Some(detail) if found.is_empty() => {
            Err(Error::new("unresolved", Exit::Failed, detail).hint("check the name and your DNS"))
        }
        _ => Ok(found),
    }
}

/// Whether an end that dials waits for what the peer says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greet {
    /// Until its greeting was heard.
    Wait,
    /// Only where the greeting says something that what follows depends on, which it does inside a
    /// site: what it tells of ports.
    Ahead,
}

/// Dials a node, called `label` in messages, and says nothing.
pub(super) async fn dial_link(
    quic: &QuicConfig,
    endpoints: &[Endpoint],
    tls: Arc<rustls::ClientConfig>,
    (label, greet): (&str, Greet),
) -> Result<QuicLink, Error> {
    let addresses = resolve(endpoints).await?;
    let tls = QuicTls {
        client: Some(tls),
        server: None,
        peer: Arc::new(|chain| {
            peer_of(chain, None, unix_now())
                .map_err(|e| LinkError::Refused { detail: e.to_string() })
        }),
        reset_key: None,
    };
    let dialled = match greet {
        Greet::Wait => quic::dial(&addresses, &tls, quic).await,
        Greet::Ahead => quic::dial_ahead(&addresses, &tls, quic).await,
    };
    dialled.map_err(|error| link_error(&error, label))
}

/// Dials a node, called `label` in messages, and greets it; `us` is who this node is, if it is one.
pub(super) async fn dial(
    inner: &Arc<Inner>,
    endpoints: &[Endpoint],
    tls: Arc<rustls::ClientConfig>,
    (us, roles): (Option<&SpiffeId>, Option<RolesMark>),
    (label, greet): (&str, Greet),
) -> Result<Session, Error> {
    let failed = |error: LinkError| link_error(&error, label);
    let quic = inner.quic.after(rates::past(inner, label));
    let link = dial_link(&quic, endpoints, tls, (label, greet)).await?;
    let told = us.map_or(Ports::none(""), |us| inner.offer(us, link.peer()));
    link.send(our_hello(&told, roles).encode()).await.map_err(failed)?;
    let crosses = us.is_some_and(|us| us.site != link.peer().site);
    let mut session = Session {
        link: RdmaLink::plain(link),
        told,
        rails: Ports::none(""),
        roles: None,
        heard: false,
        label: label.to_owned(),
    };
    if greet == Greet::Wait || !crosses {
        session.hear().await.map_err(failed)?;
    }
    Ok(session)
}

impl Session {
    /// Hears the peer's greeting, unless that was done.
    pub(super) async fn hear(&mut self) -> Result<(), LinkError> {
        if !self.heard {
            let hello = expect_hello(&self.link).await?;
            (self.rails, self.roles, self.heard) = (Ports::heard(&hello), hello.roles, true);
        }
        Ok(())
    }

    /// Content takes rails from now on.
    pub(super) fn take_rails(&mut self, inner: &Inner) {
        self.link = inner.with_rails(&self.link, true, self.told.clone(), self.rails.clone());
    }

    /// Asks a small question and reads the whole answer.
    pub(super) async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        method: &str,
        question: &Q,
    ) -> Result<A, Error> {
        let mut parts = self.call_parts(method, question).await?;
        match parts.pop() {
            Some(part) => Ok(part),
            None => Err(self.nonsense("an answer without content")),
        }
    }

    /// Asks a question whose answer comes in parts.
    pub(super) async fn call_parts<Q: Serialize, A: DeserializeOwned>(
        &self,
        method: &str,
        question: &Q,
    ) -> Result<Vec<A>, Error> {
        let mut parts = Vec::new();
        let part = |body: &[u8]| {
            parts.push(serde_json::from_slice(body).map_err(|e| self.nonsense(&e.to_string()))?);
            Ok(())
        };
        self.call_each(method, question, part).await?;
        Ok(parts)
    }

    /// Asks a question and gives each part of the answer that is not empty to `part`.
    pub(super) async fn call_each<Q: Serialize>(
        &self,
        method: &str,
        question: &Q,
        mut part: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let body = serde_json::to_vec(question).map_err(|e| self.nonsense(&e.to_string()))?;
        let frame = Frame::Call { method: method.to_owned(), body: Bytes::from(body) };
        let failed = |error: LinkError| link_error(&error, &self.label);
        self.link.send(frame.encode()).await.map_err(failed)?;
        loop {
            match recv(&self.link).await.map_err(failed)? {
                Frame::Reply { body, last } => {
                    if !body.is_empty() {
                        part(&body)?;
                    }
                    if last {
                        return Ok(());
                    }
                }
                Frame::Refuse { code, detail, .. } => {
                    return Err(refused(&self.label, &code, &detail));
                }
                other => return Err(self.nonsense(other.name())),
            }
        }
    }

    fn nonsense(&self, detail: &str) -> Error {
        let message = format!("{} answered nonsense: {detail}", self.label);
        Error::new("protocol", Exit::Failed, message)
            .hint("are both nodes of the same version? `portway doctor NODE` tells")
    }
}

/// What a failed session means to the user; `label` is the peer.
pub(super) fn link_error(error: &LinkError, label: &str) -> Error {
    match error {
        LinkError::Unreachable { address, detail } => {
            let message = format!("{label} cannot be reached at {address}: {detail}");
            Error::new("peer-unreachable", Exit::Failed, message)
                .hint("is `portway serve` running there, and does a firewall let UDP through?")
        }
        LinkError::TimedOut { .. } | LinkError::Cut => {
            Error::new("peer-silent", Exit::Interrupted, format!("{label}: {error}"))
                .hint("the same command goes on where this one ended")
        }
        LinkError::Refused { detail } => {
            let detail = refusal_text(detail);
            Error::new("identity-refused", Exit::Refused, format!("{label}: {detail}"))
                .hint(refusal_hint(detail))
        }
        LinkError::Closed { reason } => {
            let message = format!("{label} closed the session: {reason}");
            Error::new("peer-closed", Exit::Interrupted, message)
                .hint("the same command goes on where this one ended")
        }
        LinkError::Protocol { detail } => {
            Error::new("protocol", Exit::Failed, format!("{label}: {detail}"))
                .hint("are both nodes of the same version? `portway doctor NODE` tells")
        }
        LinkError::Local => Error::new("closed", Exit::Interrupted, "the session was closed here"),
    }
}

/// What to do about a refused identity; of another node than the one asked for, its name is told.
fn refusal_hint(detail: &str) -> String {
    let other = detail.rsplit_once("this is ").and_then(|(_, names)| names.split_once(", not "));
    match other {
        Some((found, asked)) => format!(
            "name it {found}, as its certificate does, or correct the address of {asked}: portway \
             nodes add {asked} ADDR:PORT"
        ),
        None => "both nodes must be of one trust domain, with valid certificates and clocks".into(),
    }
}

/// What a refusal by the peer means to the user.
pub(super) fn refused(label: &str, code: &str, detail: &str) -> Error {
    let (code, exit, hint): (&'static str, Exit, &str) = match code {
        "conflict" => (
            "conflict",
            Exit::Failed,
            "another transfer writes there; wait for it, or choose another path",
        ),
        "not-allowed" => ("not-allowed", Exit::Refused, ""),
        "denied" => (
            "denied",
            Exit::Refused,
            "portway policy explain tells what decides; portway label shows the class",
        ),
        "revoked" => ("revoked", Exit::Refused, super::crossing::REVOKED),
        "expired" => ("expired", Exit::Refused, super::crossing::EXPIRED),
        "budget" => ("budget", Exit::Refused, BUDGET_HINT),
        "link-closed" => ("link-closed", Exit::Refused, CLOSED_HINT),
        "no-audit" => ("no-audit", Exit::Failed, "the log's disk there has to be looked at"),
        "not-found" => ("not-found", Exit::Failed, "`portway ls NODE:PATH` shows what is there"),
        "in-the-way" => (
            "in-the-way",
            Exit::Failed,
            "nothing was published; move what is there away, or choose another path",
        ),
        "no-space" => (
            "no-space",
            Exit::Interrupted,
            "make room there; the same command goes on where this one ended",
        ),
        "no-descriptors" => (
            "no-descriptors",
            Exit::Interrupted,
            "raise `ulimit -n` there; the same command goes on where this one ended",
        ),
        "read-only" => ("read-only", Exit::Failed, "the receiver's root cannot be written"),
        "other-device" => (
            "other-device",
            Exit::Failed,
            "choose a path on the file system of the receiver's root",
        ),
        "unsafe-path" => ("unsafe-path", Exit::Usage, ""),
        "no-proposal" => (
            "no-proposal",
            Exit::Refused,
            "path and class have to be as they were proposed: portway label PATH --class CLASS --lower",
        ),
        "site-tier" => (
            "site-tier",
            Exit::Usage,
            "a site has one tier: give that one, name another site, or mend [sites] in portway.toml",
        ),
        "no-ca" => ("no-ca", Exit::Failed, "ask the node where the trust domain began"),
        "stopping" => {
            ("stopping", Exit::Interrupted, "the same command goes on where this one ended")
        }
        "root-mismatch" => ("root-mismatch", Exit::Failed, "nothing was published"),
        "changed" => ("changed", Exit::Failed, "open the file anew"),
        "not-a-file" => ("not-a-file", Exit::Usage, "name a file, not a directory"),
        "incomplete" => (
            "incomplete",
            Exit::Failed,
            "nothing was published; mend the cause, and the same command goes on",
        ),
        "nothing-to-publish" => ("nothing-to-publish", Exit::Failed, "nothing was published"),
        "wrong-content" => (
            "wrong-content",
            Exit::Failed,
            "content changes on its way: check memory and network of both nodes",
        ),
        "no-manifest" => (
            "no-manifest",
            Exit::Failed,
            "only what was pushed or pulled with portway has a manifest",
        ),
        _ => ("refused", Exit::Failed, ""),
    };
    let detail = human::escaped(detail.as_bytes());
    Error::new(code, exit, format!("{label}: {detail}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_another_name_is_told_with_its_name() {
        let detail = "the peer's certificate or handshake was not accepted: this is b, not a";
        let error = link_error(&LinkError::Refused { detail: detail.to_owned() }, "a");
        assert!(error.hint.starts_with("name it b,"), "{}", error.hint);
        assert!(error.hint.ends_with("portway nodes add a ADDR:PORT"), "{}", error.hint);
        let other = link_error(&LinkError::Refused { detail: "expired".to_owned() }, "a");
        assert!(other.hint.contains("trust domain"), "{}", other.hint);
    }

    #[test]
    fn what_is_in_the_way_has_a_code_and_a_hint() {
        let error = refused("a", "in-the-way", "x is a directory and would become a file");
        assert_eq!((error.code, error.exit), ("in-the-way", Exit::Failed));
        assert!(error.hint.contains("another path"), "{}", error.hint);
    }
}
