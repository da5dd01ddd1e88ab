//! How an invited node gets its certificate: its own key, a request, and what comes back.

use std::path::{Path, PathBuf};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};

use super::files::{self, FileError, MODE_PRIVATE, MODE_PUBLIC};
use super::node::{self, Identity, IdentityError};
use super::renew::{self, CHAIN_BYTES_MAX, RenewError};
use super::spiffe::SpiffeId;
use super::token::Token;

/// What stands before the 32 bytes of an Ed25519 seed in PKCS #8 (RFC 8410, section 7).
pub(super) const ED25519_PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// Why a node could not enrol.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is an identity already, or the certificate that came cannot be one.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The key that an earlier try left cannot be used.
    #[error("{} holds no valid private key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The fresh key for a certificate that is over cannot be made.
    #[error(transparent)]
    Again(RenewError),
    /// The invitation is for somebody else than is here.
    #[error("the token is for {found}, and this home is {expected}")]
    Other {
        /// For whom it is.
        found: Box<SpiffeId>,
        /// Who is here.
        expected: Box<SpiffeId>,
    },
    /// The key or the request cannot be made.
    #[error("a certificate request cannot be made")]
    Make(#[source] rcgen::Error),
    /// What came is not a chain of certificates.
    #[error("the inviting node's reply holds no valid certificates")]
    Reply,
    /// The CA that came is not the one in the token.
    #[error("the inviting node's reply comes from another CA than the token names")]
    WrongCa,
}

/// An enrolment under way: the key is made and durable, the certificate is not there yet.
#[derive(Debug)]
pub struct Enrolment {
    folder: PathBuf,
    token: Token,
    key: KeyPair,
    request: Vec<u8>,
    /// Who it has to be, where a certificate that is over is replaced.
    again: Option<SpiffeId>,
}

impl Enrolment {
    /// Begins to enrol the node with this `home`.
    ///
    /// The node's key is made here, stays here and is durable before its request leaves; begun
    /// again after a crash, the same key is asked for, so a used invitation answers again.
    ///
    /// # Errors
    /// The node has an identity, or its key cannot be written or read.
    pub fn begin(home: &Path, token: Token) -> Result<Self, EnrolError> {
        let folder = Identity::folder(home);
        if files::exists(&folder.join("node.pem"))? || files::exists(&folder.join("ca.key"))? {
            return Err(IdentityError::Exists { folder }.into());
        }
        files::make_private_folder(&folder)?;
        let path = folder.join("node.key");
        let key = match files::read_key(&path, 0o077) {
            Err(error) if error.is_missing() => {
                let key =
                    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(EnrolError::Make)?;
                files::write(&path, key.serialize_pem().as_bytes(), MODE_PRIVATE)?;
                key
            }
            pem => {
                let pem = pem?;
                let key =
                    std::str::from_utf8(&pem).ok().and_then(|pem| KeyPair::from_pem(pem).ok());
                key.ok_or(EnrolError::Key { path })?
            }
        };
        let request = renew::request(&key).map_err(EnrolError::Make)?;
        Ok(Self { folder, token, key, request, again: None })
    }

    /// Begins to enrol again who is there, with a certificate that is over: too late to renew it.
    ///
    /// # Errors
    /// The certificate here is not over, or is of the node that has the CA; or as [`Enrolment::begin`].
    pub fn again(home: &Path, token: Token, now: UnixTime) -> Result<Self, EnrolError> {
        let folder = Identity::folder(home);
        let current = Identity::load(home)?;
        let over = now > current.expires_at() && !files::exists(&folder.join("ca.key"))?;
        if !over || current.ca_fingerprint() != *token.ca_fingerprint() {
            return Err(IdentityError::Exists { folder }.into());
        }
        let (key, request) = renew::fresh_key(&folder).map_err(EnrolError::Again)?;
        Ok(Self { folder, token, key, request, again: Some(current.id().clone()) })
    }

    /// The request for a certificate (PKCS #10, DER). It names nobody: the invitation does.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// The token that this node was given.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Takes the certificate and the CA's, PEM text as [`super::Invites::redeem`] returns it, and
    /// makes them durable as this node's identity.
    ///
    /// # Errors
    /// The reply is not from the CA in the token, not for this node's key, not a usable identity
    /// or not valid at `now`; the files cannot be written.
    pub fn finish(self, chain_pem: &str, now: UnixTime) -> Result<Identity, EnrolError> {
        if chain_pem.len() > CHAIN_BYTES_MAX {
            return Err(EnrolError::Reply);
        }
        let chain = node::certificates(chain_pem.as_bytes()).ok_or(EnrolError::Reply)?;
        let pinned = self.token.ca_fingerprint();
        let ca = chain.iter().find(|cert| node::fingerprint(cert) == *pinned).cloned();
        let ca = ca.ok_or(EnrolError::WrongCa)?;
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        let identity =
            Identity::assemble(std::slice::from_ref(&ca), chain, PrivateKeyDer::from(key))?;
        identity.check(now)?;
        if let Some(id) = &self.again {
            if identity.id() != id {
                let (found, expected) = (identity.id().clone().into(), id.clone().into());
                return Err(EnrolError::Other { found, expected });
            }
            renew::put(&self.folder, &identity)?;
            return Ok(identity);
        }
        let texts = identity.chain().iter().map(|cert| files::pem(cert));
        let text: String = texts.collect();
        files::write(&self.folder.join("ca.pem"), files::pem(&ca).as_bytes(), MODE_PUBLIC)?;
        files::write(&self.folder.join("node.pem"), text.as_bytes(), MODE_PUBLIC)?;
        Ok(identity)
    }
}

/// The certificate and key that a joiner shows: self-signed by the token's one-time key, naming
/// nobody. Its times mean nothing; the invitation's do.
pub(super) fn bootstrap(
    token: &Token,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let pkcs8 = [&ED25519_PKCS8_HEAD[..], token.secret()].concat();
    let pkcs8 = PrivatePkcs8KeyDer::from(pkcs8);
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ED25519)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Portway enrolment");
    let cert = params.self_signed(&key)?.der().clone();
    Ok((cert, PrivateKeyDer::from(pkcs8)))
}
