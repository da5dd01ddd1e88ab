//! Judges a certificate chain: whose it is, or exactly which check it failed.

use std::fmt;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, Error as PkiError, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_parser::extensions::GeneralName;

use super::invites::PendingError;
use super::spiffe::{ParseSpiffeError, SpiffeId, TrustDomain};
use crate::base::{NodeName, human};

/// What a certificate must allow: its extended key usage (RFC 5280, 4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// To open sessions: `clientAuth`.
    Client,
    /// To accept sessions: `serverAuth`.
    Server,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "clientAuth",
            Self::Server => "serverAuth",
        })
    }
}

/// The name that stands in a refused certificate, for messages. Only where the error says that
/// the certificate's issuer is trusted was the name vouched for by anyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who(pub Option<NodeName>);

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => name.fmt(f),
            None => f.write_str("the peer"),
        }
    }
}

/// Why a peer's identity was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It showed no certificate.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// What it showed is not an X.509 v3 certificate.
    #[error("the peer presented a certificate that cannot be understood")]
    Malformed,
    /// The certificate is over; everything else about its chain is right.
    #[error("{who} presented a certificate that expired {} ago", span(*ago_s))]
    Expired {
        /// Whose it is.
        who: Who,
        /// For how long it has been over, in seconds.
        ago_s: u64,
    },
    /// The certificate is for later; everything else about its chain is right.
    #[error("{who} presented a certificate that becomes valid in {}", span(*in_s))]
    NotYetValid {
        /// Whose it is.
        who: Who,
        /// How long until then, in seconds.
        in_s: u64,
    },
    /// No CA that this node trusts signed it.
    #[error("{who} presented a certificate from an unknown CA")]
    UnknownCa {
        /// Whose it claims to be.
        who: Who,
    },
    /// It signed its own certificate.
    #[error("{who} presented a certificate that it signed itself")]
    SelfSigned {
        /// Whose it claims to be.
        who: Who,
    },
    /// The certificate is not made for this end of a session.
    #[error("{who} presented a certificate without the usage {needs}")]
    WrongUsage {
        /// Whose it is.
        who: Who,
        /// The usage it lacks.
        needs: Usage,
    },
    /// The certificate names no SPIFFE id.
    #[error("the peer presented a certificate without a SPIFFE id")]
    NoUri,
    /// The certificate names more than one URI.
    #[error("the peer presented a certificate with {count} URIs where one belongs")]
    ManyUris {
        /// How many.
        count: usize,
    },
    /// The certificate's URI is not the SPIFFE id of a node.
    #[error("the peer presented a certificate for '{uri}'")]
    BadUri {
        /// The URI, escaped.
        uri: String,
        /// What is wrong with it.
        source: ParseSpiffeError,
    },
    /// The certificate is of another trust domain, though of a trusted CA.
    #[error("{who} belongs to the trust domain {found}, not {expected}")]
    ForeignDomain {
        /// Whose it is.
        who: Who,
        /// Its trust domain.
        found: TrustDomain,
        /// The trust domain of this node.
        expected: TrustDomain,
    },
    /// It is another node than the one that was asked for.
    #[error("this is {found}, not {expected}")]
    WrongNode {
        /// Who answered.
        found: NodeName,
        /// Who was asked for.
        expected: NodeName,
    },
    /// A workload answers where a node should: it accepts no sessions.
    #[error("{name} is a workload, not a node")]
    Workload {
        /// Its name.
        name: NodeName,
    },
    /// The inviting node's CA is not the one in the token.
    #[error("the peer does not have the CA that the token names")]
    WrongCa,
    /// The peer wants to enrol and its invitation does not count.
    #[error("an enrolment was refused: {0}")]
    Invitation(PendingError),
    /// The peer wants to enrol at a node that has no CA.
    #[error("the peer wants to enrol, but this node issues no certificates")]
    NotInviting,
    /// Another rule for certificate chains is broken.
    #[error("{who} presented a certificate chain that is not valid: {detail}")]
    Chain {
        /// Whose it claims to be.
        who: Who,
        /// The rule.
        detail: String,
    },
}

impl PeerError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoCertificate | Self::Malformed | Self::Chain { .. } => {
                "check that the address is that of a Portway node"
            }
            Self::Expired { .. } => "invite the node again, or set the clock of this machine",
            Self::NotYetValid { .. } => "compare the clocks of the two machines",
            Self::UnknownCa { .. } | Self::SelfSigned { .. } | Self::ForeignDomain { .. } => {
                "invite the node to this trust domain"
            }
            Self::WrongUsage { .. } => "give the node a certificate with clientAuth and serverAuth",
            Self::NoUri | Self::ManyUris { .. } | Self::BadUri { .. } => {
                "give the node a certificate with one URI: spiffe://DOMAIN/tier/TIER/site/SITE/node/NAME"
            }
            Self::WrongNode { .. } | Self::Workload { .. } => "check the node's name and address",
            Self::WrongCa => "check the token's address, or ask for a new token",
            Self::Invitation(_) => "ask for a new token",
            Self::NotInviting => "join at the node where the trust domain began",
        }
    }
}

/// The CAs that a node trusts, and its trust domain.
#[derive(Debug)]
pub(super) struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    domain: Option<TrustDomain>,
}

impl Trust {
    /// Trusts these CA certificates for nodes of `domain`, or of any domain; `None` if one of
    /// them is not the certificate of a CA.
    pub(super) fn new(cas: &[CertificateDer<'_>], domain: Option<TrustDomain>) -> Option<Self> {
        let anchor = |der: &CertificateDer<'_>| {
            let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
            let anchor = webpki::anchor_from_trusted_cert(der).ok()?;
            parsed.is_ca().then(|| anchor.to_owned())
        };
        let anchors: Vec<_> = cas.iter().map(anchor).collect::<Option<_>>()?;
        (!anchors.is_empty()).then_some(Self { anchors, domain })
    }

    /// Judges a chain of which `leaf` is the first certificate, and says whose it is.
    ///
    /// The issuer is checked before what the certificate says, and its time last: so an error
    /// about time is about a certificate that was right. The CA's own time is not asked for:
    /// no certificate of the built-in CA outlives it.
    pub(super) fn judge(
        &self,
        leaf: &Leaf<'_>,
        others: &[CertificateDer<'_>],
        usage: Usage,
        now: UnixTime,
    ) -> Result<SpiffeId, PeerError> {
        let error = self.verify(leaf, others, Needs(Some(usage)), now).err();
        let error = error.map(|error| {
            let secs = leaf.not_after_s.max(leaf.not_before_s).min(now.as_secs());
            let within = Duration::from_secs(secs.max(leaf.not_before_s));
            let within = UnixTime::since_unix_epoch(within);
            match self.verify(leaf, others, Needs(None), within) {
                Err(chain) if !is_about_time(&chain) => chain,
                _ => error,
            }
        });
        let late = match error {
            Some(error) if !is_about_time(&error) => return Err(leaf.refused(error, usage)),
            late => late,
        };
        if !leaf.usages.contains(&usage) {
            return Err(PeerError::WrongUsage { who: leaf.who(), needs: usage });
        }
        let id = leaf.spiffe_id()?;
        match (&self.domain, late) {
            (Some(expected), _) if *expected != id.domain => Err(PeerError::ForeignDomain {
                who: Who(Some(id.node)),
                found: id.domain,
                expected: expected.clone(),
            }),
            (_, Some(error)) => Err(leaf.refused(error, usage)),
            _ => Ok(id),
        }
    }

    fn verify(
        &self,
        leaf: &Leaf<'_>,
        others: &[CertificateDer<'_>],
        needs: Needs,
        now: UnixTime,
    ) -> Result<(), PkiError> {
        let cert = EndEntityCert::try_from(leaf.der)?;
        cert.verify_for_usage(algorithms(), &self.anchors, others, now, needs, None, None)?;
        Ok(())
    }
}

/// The signature algorithms that certificates and handshakes may use.
fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    super::tls::algorithms().all
}

fn is_about_time(error: &PkiError) -> bool {
    matches!(error, PkiError::CertExpired { .. } | PkiError::CertNotValidYet { .. })
}

/// The usage that every certificate of a chain must allow, if any is asked for. An issuer's
/// certificate that names no usages allows all; of the first one, more is asked.
struct Needs(Option<Usage>);

impl ExtendedKeyUsageValidator for Needs {
    fn validate(&self, named: KeyPurposeIdIter<'_, '_>) -> Result<(), PkiError> {
        match self.0 {
            Some(Usage::Client) => webpki::KeyUsage::client_auth().validate(named),
            Some(Usage::Server) => webpki::KeyUsage::server_auth().validate(named),
            None => Ok(()),
        }
    }
}

/// The first certificate of a chain, read but not yet believed.
pub(super) struct Leaf<'a> {
    der: &'a CertificateDer<'a>,
    uris: Vec<Box<[u8]>>,
    self_issued: bool,
    bootstrap_key: Option<[u8; 32]>,
    /// The usages that it names; one that names none or any is no better for it.
    usages: Vec<Usage>,
    pub(super) not_before_s: u64,
    pub(super) not_after_s: u64,
}

/// What stands before the 32 bytes of an Ed25519 key in its `SubjectPublicKeyInfo` (RFC 8410).
const ED25519_SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

impl<'a> Leaf<'a> {
    pub(super) fn read(der: &'a CertificateDer<'a>) -> Result<Self, PeerError> {
        let cert = EndEntityCert::try_from(der).map_err(|_| PeerError::Malformed)?;
        let (rest, parsed) =
            x509_parser::parse_x509_certificate(der).map_err(|_| PeerError::Malformed)?;
        let names = parsed.subject_alternative_name().map_err(|_| PeerError::Malformed)?;
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        let uris: Vec<Box<[u8]>> = names.iter().filter_map(uri).collect();
        // Two parsers read the names; a certificate that they see differently is a trick.
        let same = cert.valid_uri_names().map(str::as_bytes).eq(uris.iter().map(|uri| &uri[..]));
        if !rest.is_empty() || !same {
            return Err(PeerError::Malformed);
        }
        let self_issued = cert.issuer() == cert.subject();
        let spki = cert.subject_public_key_info();
        let key = spki.strip_prefix(&ED25519_SPKI_HEAD[..]).and_then(|key| key.try_into().ok());
        let bootstrap_key = key.filter(|_| self_issued && uris.is_empty());
        let mut usages = Vec::new();
        if let Some(named) = parsed.extended_key_usage().map_err(|_| PeerError::Malformed)? {
            usages.extend(named.value.client_auth.then_some(Usage::Client));
            usages.extend(named.value.server_auth.then_some(Usage::Server));
        }
        let validity = parsed.validity();
        let secs = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        let (not_before_s, not_after_s) = (secs(validity.not_before), secs(validity.not_after));
        Ok(Self { der, uris, self_issued, bootstrap_key, usages, not_before_s, not_after_s })
    }

    /// The Ed25519 key of a self-signed certificate that names nobody: the mark of an invited
    /// node. A certificate with a URI is never that, so the two kinds cannot be confused.
    pub(super) fn bootstrap_key(&self) -> Option<&[u8; 32]> {
        self.bootstrap_key.as_ref()
    }

    /// The SPIFFE id, which only a verified chain makes true.
    pub(super) fn spiffe_id(&self) -> Result<SpiffeId, PeerError> {
        match &self.uris[..] {
            [] => Err(PeerError::NoUri),
            [uri] => {
                let shown = || human::escaped(&uri[..uri.len().min(URI_SHOWN_BYTES_MAX)]);
                // Bytes that are not UTF-8 cannot be part of any name either.
                let text = std::str::from_utf8(uri).unwrap_or_default();
                text.parse().map_err(|source| PeerError::BadUri { uri: shown(), source })
            }
            many => Err(PeerError::ManyUris { count: many.len() }),
        }
    }

    fn who(&self) -> Who {
        Who(self.spiffe_id().ok().map(|id| id.node))
    }

    fn refused(&self, error: PkiError, needs: Usage) -> PeerError {
        let who = self.who();
        match error {
            PkiError::CertExpired { time, not_after } => {
                let ago_s = time.as_secs().saturating_sub(not_after.as_secs());
                PeerError::Expired { who, ago_s }
            }
            PkiError::CertNotValidYet { time, not_before } => {
                let in_s = not_before.as_secs().saturating_sub(time.as_secs());
                PeerError::NotYetValid { who, in_s }
            }
            PkiError::UnknownIssuer if self.self_issued => PeerError::SelfSigned { who },
            // A CA of the same name with another key is an unknown CA too.
            PkiError::UnknownIssuer | PkiError::InvalidSignatureForPublicKey => {
                PeerError::UnknownCa { who }
            }
            PkiError::RequiredEkuNotFoundContext(_) | PkiError::EmptyEkuExtension => {
                PeerError::WrongUsage { who, needs }
            }
            PkiError::BadDer | PkiError::BadDerTime => PeerError::Malformed,
            other => {
                // The text may quote the certificate, which its maker can make long.
                let detail = other.to_string().chars().take(DETAIL_CHARS_MAX).collect();
                PeerError::Chain { who, detail }
            }
        }
    }
}

/// Most characters of the rule that a chain broke.
const DETAIL_CHARS_MAX: usize = 160;
/// Most bytes of a peer's URI that an error shows.
const URI_SHOWN_BYTES_MAX: usize = 256;

fn uri(name: &GeneralName<'_>) -> Option<Box<[u8]>> {
    /// The tag of a URI among general names (RFC 5280, 4.2.1.6).
    const TAG_URI: u32 = 6;
    match name {
        GeneralName::URI(uri) => Some(uri.as_bytes().into()),
        GeneralName::Invalid(tag, bytes) if tag.0 == TAG_URI => Some((*bytes).into()),
        _ => None,
    }
}

/// A span of time in words: days from two days on.
fn span(secs: u64) -> String {
    match secs / 86_400 {
        0 | 1 => human::seconds(secs as f64),
        days => format!("{days} days"),
    }
}
