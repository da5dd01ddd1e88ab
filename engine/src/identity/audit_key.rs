//! The key that seals a node's audit log, and the node's word that it is its own.
//!
//! Certificates of nodes have ECDSA P-256 keys, or whatever an existing PKI gives, and they change
//! when a certificate is renewed. An audit log is sealed with Ed25519 (RFC 8032) by a key of its
//! own, `identity/audit.key`, made at first use and kept across renewals. The key of the node's
//! certificate signs it ([`Attestation`]).

use std::fmt;
use std::path::Path;

use rcgen::{KeyPair, PKCS_ED25519};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::SignatureScheme;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use webpki::EndEntityCert;

use super::files::{self, FileError, MODE_PRIVATE};
use super::node::{CERTS_MAX, Identity};
use super::spiffe::SpiffeId;
use super::tls;
use super::verify::{Leaf, PeerError, Usage};

/// What precedes the public key in what a node signs; it is no beginning of anything in TLS.
const CONTEXT: &[u8] = b"portway audit key 1\0";

/// The public half of the key that seals an audit log (Ed25519, 32 bytes).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuditPublicKey(pub [u8; 32]);

impl AuditPublicKey {
    /// Whether `signature` is that of `message` by this key.
    pub fn verify(&self, message: &[u8], signature: &AuditSignature) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, &signature.0).is_ok()
    }
}

impl fmt::Display for AuditPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AuditPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// An Ed25519 signature (64 bytes).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuditSignature(pub [u8; 64]);

impl fmt::Display for AuditSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AuditSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why there is no key to seal an audit log with.
#[derive(Debug, thiserror::Error)]
pub enum AuditKeyError {
    /// The key's file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file holds no Ed25519 private key.
    #[error("audit.key holds no Ed25519 private key")]
    Broken,
    /// The key cannot be made.
    #[error("a key for the audit log cannot be made")]
    Make(#[source] rcgen::Error),
    /// The node's private key signs by no algorithm that others take.
    #[error("the private key of this node cannot sign for its audit log")]
    Sign,
}

/// The key that seals an audit log.
pub struct AuditKey {
    pair: Ed25519KeyPair,
    public: AuditPublicKey,
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl AuditKey {
    /// Reads `audit.key` in the folder of identities, or makes it (mode 0600, in a folder of mode
    /// 0700). Of several processes that do so at once one makes it.
    ///
    /// # Errors
    /// The file cannot be read or written, is open to others, or holds another kind of key.
    pub fn load_or_create(folder: &Path) -> Result<Self, AuditKeyError> {
        files::make_private_folder(folder)?;
        let path = folder.join("audit.key");
        let _held = files::lock(&folder.join("audit.lock"))?;
        if !files::exists(&path)? {
            let key = KeyPair::generate_for(&PKCS_ED25519).map_err(AuditKeyError::Make)?;
            files::write(&path, key.serialize_pem().as_bytes(), MODE_PRIVATE)?;
        }
        let pem = files::read_key(&path, 0o077)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| AuditKeyError::Broken)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
        Self::of(pair.map_err(|_| AuditKeyError::Broken)?)
    }

    /// The key of this seed, for tests and fuzzers.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn from_seed(seed: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("32 bytes are a seed");
        Self::of(pair).expect("its public key has 32 bytes")
    }

    fn of(pair: Ed25519KeyPair) -> Result<Self, AuditKeyError> {
        let public = pair.public_key().as_ref().try_into().map_err(|_| AuditKeyError::Broken)?;
        Ok(Self { pair, public: AuditPublicKey(public) })
    }

    /// Its public half.
    pub fn public(&self) -> AuditPublicKey {
        self.public
    }

    /// Signs a message, which begins with words that say what it is.
    pub fn sign(&self, message: &[u8]) -> AuditSignature {
        let mut out = [0; 64];
        out.copy_from_slice(self.pair.sign(message).as_ref());
        AuditSignature(out)
    }
}

/// A node's word that a key seals its audit log: a signature by the key of its certificate.
///
/// It proves that whoever had the certificate's private key named this key, for the SPIFFE id in
/// the certificate. It says nothing of when, and nothing of what the key was used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// Algorithm of the signature, as TLS 1.3 numbers them (RFC 8446, 4.2.3).
    pub scheme: u16,
    /// The signature.
    pub signature: Vec<u8>,
    /// The node's certificate, then any intermediate ones, in DER.
    pub chain: Vec<Vec<u8>>,
}

/// Why a key is not taken for that of a node's audit log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttestationError {
    /// The certificate does not count here.
    #[error("the key of the audit log is vouched for by a certificate that is refused: {0}")]
    Certificate(#[from] PeerError),
    /// The signature is not one of the certificate's key over this key.
    #[error("the certificate's key did not sign the key of the audit log")]
    Signature,
}

fn message(key: AuditPublicKey) -> Vec<u8> {
    [CONTEXT, &key.0].concat()
}

impl Identity {
    /// Signs the public key of this node's audit log with the key of its certificate.
    ///
    /// # Errors
    /// The certificate's key cannot sign by any algorithm that other nodes take.
    pub fn attest(&self, key: AuditPublicKey) -> Result<Attestation, AuditKeyError> {
        let schemes: Vec<SignatureScheme> =
            tls::algorithms().mapping.iter().map(|(scheme, _)| *scheme).collect();
        let signer = self.certified.key.choose_scheme(&schemes).ok_or(AuditKeyError::Sign)?;
        let signature = signer.sign(&message(key)).map_err(|_| AuditKeyError::Sign)?;
        // The CA's own certificate is what a verifier has.
        let chain = self.certified.cert.iter().filter(|cert| **cert != self.ca);
        let chain = chain.map(|cert| cert.to_vec()).collect();
        Ok(Attestation { scheme: u16::from(signer.scheme()), signature, chain })
    }

    /// Whose audit log `key` seals, if the CA that this node trusts stands behind `attestation`.
    /// Certificates are judged for the time `at`, when the key was recorded.
    ///
    /// # Errors
    /// The certificate is refused or the signature is not its key's.
    pub fn judge_attestation(
        &self,
        key: AuditPublicKey,
        attestation: &Attestation,
        at: UnixTime,
    ) -> Result<SpiffeId, AttestationError> {
        let chain: Vec<CertificateDer<'_>> =
            attestation.chain.iter().take(CERTS_MAX).map(|der| der[..].into()).collect();
        let first = chain.first().ok_or(PeerError::NoCertificate)?;
        let leaf = Leaf::read(first)?;
        let id = self.trust.judge(&leaf, &chain[1..], Usage::Client, at)?;
        let cert = EndEntityCert::try_from(first).map_err(|_| PeerError::Malformed)?;
        let scheme = SignatureScheme::from(attestation.scheme);
        let known = tls::algorithms();
        let known = known.mapping.iter().filter(|(other, _)| *other == scheme);
        let mut algorithms = known.flat_map(|(_, algorithms)| algorithms.iter());
        let (message, signature) = (message(key), &attestation.signature);
        let signed = algorithms.any(|one| cert.verify_signature(*one, &message, signature).is_ok());
        if signed { Ok(id) } else { Err(AttestationError::Signature) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::time::Duration;

    use super::*;
    use crate::base::Tier;

    fn at(secs: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(secs))
    }

    /// 2026-06-01.
    const NOW_S: u64 = 1_780_272_000;

    fn node(home: &Path) -> Identity {
        let (name, site) = ("gpu-1".parse().unwrap(), "onprem".parse().unwrap());
        Identity::init(home, name, site, Tier::Private, at(NOW_S)).unwrap()
    }

    #[test]
    fn a_key_is_made_once_and_nobody_else_can_read_it() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("identity");
        let key = AuditKey::load_or_create(&folder).unwrap();
        let again = AuditKey::load_or_create(&folder).unwrap();
        assert_eq!(key.public(), again.public());
        let mode = |name: &str| std::fs::metadata(folder.join(name)).unwrap().mode() & 0o777;
        assert_eq!(mode("audit.key"), 0o600);
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        let (signature, public) = (key.sign(b"words"), key.public());
        assert!(public.verify(b"words", &signature));
        assert!(!public.verify(b"other words", &signature));
        std::fs::write(folder.join("audit.key"), "nothing").unwrap();
        let broken = AuditKey::load_or_create(&folder);
        assert!(matches!(broken, Err(AuditKeyError::Broken)));
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        std::fs::set_permissions(folder.join("audit.key"), open).unwrap();
        let exposed = AuditKey::load_or_create(&folder);
        assert!(matches!(exposed, Err(AuditKeyError::File(FileError::Exposed { .. }))));
    }

    #[test]
    fn a_node_vouches_for_its_key_and_for_no_other() {
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ours, stranger) = (node(home.path()), node(elsewhere.path()));
        let key = AuditKey::load_or_create(&Identity::folder(home.path())).unwrap().public();
        let word = ours.attest(key).unwrap();
        assert_eq!(word.chain.len(), 1, "the CA's certificate is not in it");
        assert_eq!(ours.judge_attestation(key, &word, at(NOW_S)).as_ref(), Ok(ours.id()));

        let signature = Err(AttestationError::Signature);
        let other = AuditPublicKey([7; 32]);
        assert_eq!(ours.judge_attestation(other, &word, at(NOW_S)), signature);
        let mut bad = word.clone();
        bad.signature[9] ^= 1;
        assert_eq!(ours.judge_attestation(key, &bad, at(NOW_S)), signature);
        let bad = Attestation { scheme: 0, ..word.clone() };
        assert_eq!(ours.judge_attestation(key, &bad, at(NOW_S)), signature);
        // Somebody else's certificate beside a signature of ours.
        let theirs = stranger.attest(key).unwrap();
        let bad = Attestation { chain: theirs.chain.clone(), ..word.clone() };
        let refused = |result| matches!(result, Err(AttestationError::Certificate(_)));
        assert!(refused(ours.judge_attestation(key, &bad, at(NOW_S))));
        assert!(refused(ours.judge_attestation(key, &theirs, at(NOW_S))));
        let none = Attestation { chain: Vec::new(), ..word.clone() };
        assert!(refused(ours.judge_attestation(key, &none, at(NOW_S))));
        assert!(refused(ours.judge_attestation(key, &word, at(NOW_S + 400 * 86_400))));
    }
}
