//! TLS 1.3 with both ends authenticated: rustls configurations, and what their refusals mean.

use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::ca::CaError;
use super::enrol;
use super::invites::Invites;
use super::live::Live;
use super::node::{self, Identity, IdentityError};
use super::spiffe::SpiffeId;
use super::token::Token;
use super::verify::{Leaf, PeerError, Trust, Usage};
use crate::base::NodeName;
use crate::policy::Kind;
use crate::transport::Peer;

/// The application protocol that both ends must name (ALPN).
pub const ALPN: &[u8] = b"portway/1";
/// What to give where an API wants a server name. It is not sent, and certificates do not name it.
pub const SERVER_NAME: &str = "portway";

/// Which node a client wants to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// This one and no other.
    Node(NodeName),
    /// Any of the trust domain.
    Any,
}

/// For accepting sessions: from nodes of this trust domain and, where `invites` are given, from
/// joiners with an invitation that counts.
///
/// TLS 1.3 only; no tickets, no resumption and no early data, so every session proves both
/// identities anew. A joiner's handshake reads the file of invitations.
///
/// # Errors
/// TLS cannot be set up.
pub fn server_config(
    identity: &Identity,
    invites: Option<Arc<Invites>>,
) -> Result<Arc<ServerConfig>, IdentityError> {
    live_server_config(&Arc::new(Live::new(identity.clone())), invites)
}

/// The same with an identity that is renewed meanwhile: each handshake shows the newest certificate.
///
/// # Errors
/// TLS cannot be set up.
pub fn live_server_config(
    live: &Arc<Live>,
    invites: Option<Arc<Invites>>,
) -> Result<Arc<ServerConfig>, IdentityError> {
    let verifier = Arc::new(JudgeClients { live: Arc::clone(live), invites });
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(IdentityError::Tls)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(live) as _);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// For opening sessions with a node of this trust domain.
///
/// # Errors
/// TLS cannot be set up.
pub fn client_config(
    identity: &Identity,
    expect: Expect,
) -> Result<Arc<ClientConfig>, IdentityError> {
    let judge = JudgeServers { trust: identity.trust.clone(), expect };
    client(Arc::new(judge), identity.certified.clone())
}

/// For joining: shows the token's one-time key, and accepts only a node whose chain holds the CA
/// that the token names.
///
/// # Errors
/// The one-time certificate cannot be made; TLS cannot be set up.
pub fn join_config(token: &Token) -> Result<Arc<ClientConfig>, IdentityError> {
    let (cert, key) = enrol::bootstrap(token).map_err(CaError::Make)?;
    let certified =
        CertifiedKey::from_der(vec![cert], key, &provider()).map_err(IdentityError::Tls)?;
    let judge = JudgeInviter { ca_fingerprint: *token.ca_fingerprint() };
    client(Arc::new(judge), Arc::new(certified))
}

/// Who is at the other end of a session, from the certificates it showed.
///
/// `chain` must have passed the TLS configurations of this module: here it is only read. A
/// joiner's name is that of its invitation, so a server passes its `invites`.
///
/// # Errors
/// There is no certificate, or it is a joiner's and its invitation does not count (any more).
pub fn peer_of(
    chain: &[CertificateDer<'_>],
    invites: Option<&Invites>,
    now: UnixTime,
) -> Result<Peer, PeerError> {
    let leaf = Leaf::read(chain.first().ok_or(PeerError::NoCertificate)?)?;
    if let Some(key) = leaf.bootstrap_key() {
        let invites = invites.ok_or(PeerError::NotInviting)?;
        let invited = invites.pending(key, now).map_err(PeerError::Invitation)?;
        let (node, site, tier) = (invited.name, invited.site, invited.tier);
        let (kind, enrolling) = (invited.kind, Some(*key));
        let valid_until_s = invited.expires_at.as_secs();
        return Ok(Peer { node, kind, site, tier, valid_until_s, enrolling });
    }
    let SpiffeId { node, kind, site, tier, .. } = leaf.spiffe_id()?;
    let valid_until_s = leaf.not_after_s;
    Ok(Peer { node, kind, site, tier, valid_until_s, enrolling: None })
}

/// The one-time public key of a joiner, from the certificates it showed: what
/// [`Invites::redeem`] takes. `None` if the peer is no joiner.
pub fn joiner_key(chain: &[CertificateDer<'_>]) -> Option<[u8; 32]> {
    Leaf::read(chain.first()?).ok()?.bootstrap_key().copied()
}

/// The refusal that this end put into a TLS error, if it was one.
pub fn refusal(error: &Error) -> Option<&PeerError> {
    match error {
        Error::Other(OtherError(inner)) => inner.downcast_ref(),
        Error::NoCertificatesPresented => Some(&PeerError::NoCertificate),
        _ => None,
    }
}

/// The text of a TLS error as a transport kept it, without what rustls puts before a refusal.
pub fn refusal_text(reason: &str) -> &str {
    reason.strip_prefix("other error: ").unwrap_or(reason)
}

/// What the other end says by the TLS alert with which it ended a handshake. It gives no reasons:
/// those are in its own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Alert {
    /// It refuses this node's identity, or a joiner's invitation.
    #[error("the peer refused this node's certificate")]
    Refused,
    /// It wants a certificate and got none.
    #[error("the peer wants a certificate")]
    CertificateRequired,
    /// It speaks another application protocol.
    #[error("the peer does not speak this version of the protocol")]
    Protocol,
    /// It speaks another version of TLS.
    #[error("the peer does not speak TLS 1.3")]
    Version,
    /// Something else, by its number (RFC 8446, section 6).
    #[error("the peer ended the TLS handshake with alert {0}")]
    Other(u8),
}

impl Alert {
    /// The meaning of the alert with this number (RFC 8446, section 6).
    pub fn from_code(code: u8) -> Self {
        match code {
            // handshake_failure is what a refusal of this module sends; the others come from
            // rustls itself and from other implementations: bad_certificate to
            // certificate_unknown, unknown_ca, access_denied.
            40 | 42..=46 | 48 | 49 => Self::Refused,
            70 => Self::Version,
            116 => Self::CertificateRequired,
            120 => Self::Protocol,
            other => Self::Other(other),
        }
    }

    /// What to do about it, for a node or for one that is `joining`.
    pub fn hint(self, joining: bool) -> &'static str {
        match self {
            Self::Refused if joining => {
                "the token was used, has expired or is for another node: ask for a new one"
            }
            Self::Refused => {
                "the peer's log says why; often a certificate has expired or the peer is of another trust domain"
            }
            Self::CertificateRequired => "join the trust domain first",
            Self::Protocol | Self::Version => "check that both nodes run the same version",
            Self::Other(_) => "check that the address is that of a Portway node",
        }
    }
}

/// The cryptography in use: ring, everywhere.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(ring::default_provider()));
    PROVIDER.clone()
}

/// The signature algorithms that certificates and handshakes may use.
pub(super) fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

fn client(
    judge: Arc<dyn ServerCertVerifier>,
    certified: Arc<CertifiedKey>,
) -> Result<Arc<ClientConfig>, IdentityError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(IdentityError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(judge)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

fn refuse(error: PeerError) -> Error {
    Error::Other(OtherError(Arc::new(error)))
}

/// Judges who opens a session.
#[derive(Debug)]
pub(super) struct JudgeClients {
    live: Arc<Live>,
    invites: Option<Arc<Invites>>,
}

impl JudgeClients {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), PeerError> {
        let leaf = Leaf::read(end_entity)?;
        let Some(key) = leaf.bootstrap_key() else {
            return self.live.identity().trust.judge(&leaf, others, Usage::Client, now).map(drop);
        };
        // That the joiner holds the secret key is proved by its handshake signature.
        let invites = self.invites.as_ref().ok_or(PeerError::NotInviting)?;
        invites.pending(key, now).map(drop).map_err(PeerError::Invitation)
    }
}

/// Judges whom a node reached.
#[derive(Debug)]
struct JudgeServers {
    trust: Arc<Trust>,
    expect: Expect,
}

impl JudgeServers {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), PeerError> {
        let leaf = Leaf::read(end_entity)?;
        let id = self.trust.judge(&leaf, others, Usage::Server, now)?;
        if id.kind == Kind::Workload {
            return Err(PeerError::Workload { name: id.node });
        }
        match &self.expect {
            Expect::Node(expected) if *expected != id.node => {
                Err(PeerError::WrongNode { found: id.node, expected: expected.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// Judges whom a joiner reached.
#[derive(Debug)]
struct JudgeInviter {
    ca_fingerprint: [u8; 32],
}

impl JudgeInviter {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), PeerError> {
        let ca = others.iter().find(|cert| node::fingerprint(cert) == self.ca_fingerprint);
        let ca = ca.ok_or(PeerError::WrongCa)?;
        let trust = Trust::new(std::slice::from_ref(ca), None).ok_or(PeerError::WrongCa)?;
        trust.judge(&Leaf::read(end_entity)?, others, Usage::Server, now).map(drop)
    }
}

/// What the two verifier traits of rustls have in common: the handshake signature.
macro_rules! handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            rustls::crypto::verify_tls13_signature(message, cert, signature, &algorithms())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            algorithms().supported_schemes()
        }
    };
}

impl ClientCertVerifier for JudgeClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, others, now).map_err(refuse)?;
        Ok(ClientCertVerified::assertion())
    }

    handshake_signatures!();
}

macro_rules! server_verifier {
    ($judge:ty) => {
        impl ServerCertVerifier for $judge {
            fn verify_server_cert(
                &self,
                end_entity: &CertificateDer<'_>,
                others: &[CertificateDer<'_>],
                _name: &ServerName<'_>,
                _ocsp: &[u8],
                now: UnixTime,
            ) -> Result<ServerCertVerified, Error> {
                self.judge(end_entity, others, now).map_err(refuse)?;
                Ok(ServerCertVerified::assertion())
            }

            handshake_signatures!();
        }
    };
}

server_verifier!(JudgeServers);
server_verifier!(JudgeInviter);
