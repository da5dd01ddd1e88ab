//! The identity of this node: its certificate, its key and the CA it trusts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::digest::{SHA256, digest};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::ca::{Ca, CaError, NODE_VALIDITY_S};
use super::files::{self, FileError, MODE_PRIVATE, MODE_PUBLIC};
use super::renew::NEXT_KEY;
use super::spiffe::{SpiffeId, TrustDomain};
use super::tls;
use super::verify::{Leaf, PeerError, Trust, Usage};
use crate::base::{NodeName, SiteName, Tier};
use crate::policy::Kind;

/// Most certificates in a file.
pub(super) const CERTS_MAX: usize = 16;

/// How often an identity is read again that is replaced while it is read.
const RENEWED_MEANWHILE_MAX: usize = 3;

/// Why this node has no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is one already, and it is never overwritten.
    #[error("{} already holds an identity", folder.display())]
    Exists {
        /// The folder.
        folder: PathBuf,
    },
    /// There is none yet.
    #[error("this node has no identity in {}", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
    },
    /// The node began to join and has no certificate yet.
    #[error("this node has not finished joining: {} holds a key and no certificate", folder.display())]
    Unfinished {
        /// The folder.
        folder: PathBuf,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The CA cannot be made.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A file does not hold what it should.
    #[error("{} holds no valid {what}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The private key is not that of the certificate, or of a kind that TLS cannot use.
    #[error("the private key does not belong to the certificate")]
    Key(#[source] rustls::Error),
    /// What should be trusted as a CA is not one.
    #[error("the certificate to trust is not that of a CA")]
    NotCa,
    /// Other nodes would refuse this node's certificate.
    #[error("the certificate of this node is of no use: {0}")]
    Refused(#[source] PeerError),
    /// This node's certificate is over.
    #[error("the certificate of this node has expired")]
    Expired {
        /// Since when.
        since: UnixTime,
    },
    /// This node's certificate is not valid yet, or the clock is wrong.
    #[error("the certificate of this node is not valid yet")]
    NotYetValid {
        /// From when on.
        from: UnixTime,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// Derived from the private key, and no more to be shown than that.
#[derive(Clone)]
struct ResetKey([u8; 32]);

impl std::fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResetKey(..)")
    }
}

/// This node's certificate and key, and what it trusts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Identity {
    id: SpiffeId,
    pub(super) ca: CertificateDer<'static>,
    pub(super) trust: Arc<Trust>,
    pub(super) certified: Arc<CertifiedKey>,
    reset_key: ResetKey,
    valid_from: UnixTime,
    valid_until: UnixTime,
}

impl Identity {
    /// Begins a new trust domain: makes its CA and this node's certificate below `home`.
    ///
    /// All files appear at once.
    ///
    /// # Errors
    /// There is an identity already, the clock is wrong, or the files cannot be written.
    pub fn init(
        home: &Path,
        name: NodeName,
        site: SiteName,
        tier: Tier,
        now: UnixTime,
    ) -> Result<Self, IdentityError> {
        Self::init_for(home, (name, site, tier), NODE_VALIDITY_S, now)
    }

    /// The same with a certificate that is valid for so many seconds.
    ///
    /// # Errors
    /// As for [`Identity::init`].
    pub fn init_for(
        home: &Path,
        (name, site, tier): (NodeName, SiteName, Tier),
        lifetime_s: u64,
        now: UnixTime,
    ) -> Result<Self, IdentityError> {
        let folder = Self::folder(home);
        if std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(IdentityError::Exists { folder });
        }
        let domain = TrustDomain::random().ok_or(CaError::Random)?;
        let ca = Ca::create(&domain, now)?.lifetime_s(lifetime_s);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::Make)?;
        let id = SpiffeId { domain, tier, site, kind: Kind::Node, node: name };
        let issued = ca.sign(&key, &id, now)?;
        let files = [
            ("ca.key", ca.key.serialize_pem(), MODE_PRIVATE),
            ("ca.pem", files::pem(ca.cert()), MODE_PUBLIC),
            ("node.key", key.serialize_pem(), MODE_PRIVATE),
            ("node.pem", issued.chain_pem, MODE_PUBLIC),
        ];
        files::write_folder(&folder, &files)?;
        Self::load(home)
    }

    /// Reads the identity below `home`.
    ///
    /// An expired certificate still loads; [`Identity::check`] tells.
    ///
    /// # Errors
    /// There is none, a file is not understood or open to others, or the files do not belong
    /// together.
    pub fn load(home: &Path) -> Result<Self, IdentityError> {
        let folder = Self::folder(home);
        let cert = folder.join("node.pem");
        if !files::exists(&cert)? {
            let begun = files::exists(&folder.join("node.key"))?;
            return Err(if begun {
                IdentityError::Unfinished { folder }
            } else {
                IdentityError::Missing { folder }
            });
        }
        let with = |key: &str| Self::load_with(&folder, key);
        for _ in 0..RENEWED_MEANWHILE_MAX {
            match with("node.key") {
                Err(IdentityError::Key(_)) => {}
                read => return read,
            }
            // It was renewed, and the key is not in its place yet; or both are, meanwhile.
            if let Ok(identity) = with(NEXT_KEY) {
                return Ok(identity);
            }
        }
        with("node.key")
    }

    /// Reads the identity in `folder` with the key in the file `key` of it.
    pub(super) fn load_with(folder: &Path, key: &str) -> Result<Self, IdentityError> {
        let file = |name: &str| folder.join(name);
        Self::read(&file("ca.pem"), &file("node.pem"), &file(key), 0o077)
    }

    /// Reads an identity of an existing PKI from PEM files: the CA certificates to trust, this
    /// node's certificate with any intermediate ones after it, and its private key.
    ///
    /// The certificate needs one URI of this module's shape and both usages, `clientAuth` and
    /// `serverAuth`. The key may be readable by a group, not by all.
    ///
    /// # Errors
    /// As for [`Identity::load`].
    pub fn from_files(ca: &Path, cert: &Path, key: &Path) -> Result<Self, IdentityError> {
        Self::read(ca, cert, key, 0o007)
    }

    /// Where the identity is below a node's home directory.
    pub fn folder(home: &Path) -> PathBuf {
        home.join("identity")
    }

    /// Who this node is.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// SHA-256 of the CA's certificate (the first one, if there are several).
    pub fn ca_fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.ca)
    }

    /// When this node's certificate expires.
    pub fn expires_at(&self) -> UnixTime {
        self.valid_until
    }

    /// From when on it is to be renewed: half of its life is over.
    pub fn renews_at(&self) -> UnixTime {
        let (from, until) = (self.valid_from.as_secs(), self.valid_until.as_secs());
        UnixTime::since_unix_epoch(Duration::from_secs(from + until.saturating_sub(from) / 2))
    }

    /// A secret that is this node's alone as long as it has this private key, for stateless resets.
    pub fn reset_key(&self) -> [u8; 32] {
        self.reset_key.0
    }

    /// Whether this node's certificate is valid at `now`: what to ask first when a peer refuses it.
    ///
    /// # Errors
    /// It has expired or is not valid yet.
    pub fn check(&self, now: UnixTime) -> Result<(), IdentityError> {
        if now > self.valid_until {
            return Err(IdentityError::Expired { since: self.valid_until });
        }
        if now < self.valid_from {
            return Err(IdentityError::NotYetValid { from: self.valid_from });
        }
        Ok(())
    }

    /// The certificates this node shows: its own, any intermediate ones, the CA's.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    fn read(ca: &Path, cert: &Path, key: &Path, exposed: u32) -> Result<Self, IdentityError> {
        let broken = |path: &Path, what| IdentityError::Broken { path: path.to_owned(), what };
        let key_pem = files::read_key(key, exposed)?;
        let key_der =
            PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| broken(key, "private key"))?;
        let load = |path: &Path| {
            let pem = files::read(path, files::PEM_BYTES_MAX)?;
            certificates(&pem).ok_or_else(|| broken(path, "certificates"))
        };
        Self::assemble(&load(ca)?, load(cert)?, key_der)
    }

    /// An identity of these parts, checked as other nodes would check it, except for the time.
    pub(super) fn assemble(
        cas: &[CertificateDer<'static>],
        mut chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        let refused = IdentityError::Refused;
        let first = chain.first().cloned().ok_or(refused(PeerError::NoCertificate))?;
        let leaf = Leaf::read(&first).map_err(refused)?;
        let id = leaf.spiffe_id().map_err(refused)?;
        let ca = cas.first().cloned().ok_or(IdentityError::NotCa)?;
        let trust = Trust::new(cas, Some(id.domain.clone())).ok_or(IdentityError::NotCa)?;
        let unix = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
        let (valid_from, valid_until) = (unix(leaf.not_before_s), unix(leaf.not_after_s));
        let usages: &[Usage] = match id.kind {
            Kind::Node => &[Usage::Client, Usage::Server],
            Kind::Workload => &[Usage::Client],
        };
        for &usage in usages {
            match trust.judge(&leaf, &chain[1..], usage, valid_from) {
                // The time of an intermediate certificate is not this check's matter either.
                Ok(_) | Err(PeerError::Expired { .. } | PeerError::NotYetValid { .. }) => {}
                Err(error) => return Err(refused(error)),
            }
        }
        if !chain.contains(&ca) {
            // A joiner knows the CA by its fingerprint only and finds it in the chain.
            chain.push(ca.clone());
        }
        let reset_key = blake3::derive_key("portway 2026-11 stateless reset key", key.secret_der());
        let reset_key = ResetKey(reset_key);
        let certified = CertifiedKey::from_der(chain, key, &tls::provider());
        let certified = Arc::new(certified.map_err(IdentityError::Key)?);
        let trust = Arc::new(trust);
        Ok(Self { id, ca, trust, certified, reset_key, valid_from, valid_until })
    }
}

/// SHA-256 of a certificate.
pub(super) fn fingerprint(cert: &CertificateDer<'_>) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, cert).as_ref());
    out
}

/// The certificates in PEM text, at least one and at most [`CERTS_MAX`].
pub(super) fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certs = CertificateDer::pem_slice_iter(pem).take(CERTS_MAX + 1);
    let certs: Vec<_> = certs.collect::<Result<_, _>>().ok()?;
    (1..=CERTS_MAX).contains(&certs.len()).then_some(certs)
}
