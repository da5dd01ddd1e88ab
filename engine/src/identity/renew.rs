//! Renewal: the same identity, a fresh key, another certificate, without a moment between.
//!
//! ```text
//! identity/node.key.next    the fresh key, durable before the request leaves
//! identity/node.pem         replaced at once: from here on the new certificate counts
//! identity/node.key         replaced at once by node.key.next
//! ```
//!
//! Whoever reads between the last two steps, or after a crash there, finds a certificate that is not
//! for `node.key` and takes `node.key.next` ([`Identity::load`]); the next renewal first puts it in place.

use std::fs::File;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};

use super::ca::{Ca, CaError};
use super::files::{self, FileError, MODE_PRIVATE, MODE_PUBLIC};
use super::node::{self, Identity, IdentityError};

/// Most bytes of the PEM text that a CA's node sends.
pub(super) const CHAIN_BYTES_MAX: usize = 64 << 10;
/// The fresh key until its certificate is in place.
pub(super) const NEXT_KEY: &str = "node.key.next";

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The identity that is there cannot be used, or what came is none.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The CA of this node cannot sign.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The key or the request cannot be made.
    #[error("a certificate request cannot be made")]
    Make(#[source] rcgen::Error),
    /// What came is not a chain of certificates.
    #[error("the reply holds no valid certificates")]
    Reply,
    /// The certificate that came is for somebody else.
    #[error("the certificate that came is for another identity")]
    Other,
}

/// A renewal under way: the fresh key is made and durable, its certificate is not there yet. Until it
/// is dropped no other process of this home renews.
#[derive(Debug)]
pub struct Renewal {
    folder: PathBuf,
    current: Identity,
    key: KeyPair,
    request: Vec<u8>,
    _held: File,
}

impl Renewal {
    /// Begins to renew the certificate of the node or workload with this `home`, if half of its life
    /// is over; `None` if it is not, or another process is at it.
    ///
    /// # Errors
    /// There is no identity, or the fresh key cannot be written.
    pub fn begin(home: &Path, now: UnixTime) -> Result<Option<Self>, RenewError> {
        let folder = Identity::folder(home);
        let Some(held) = files::try_lock(&folder.join("renew.lock"))? else { return Ok(None) };
        let current = Identity::load(home)?;
        if now < current.renews_at() {
            return Ok(None);
        }
        let (key, request) = fresh_key(&folder)?;
        Ok(Some(Self { folder, current, key, request, _held: held }))
    }

    /// The request for a certificate (PKCS #10, DER). It names nobody: the session does.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Has the CA of this home sign.
    ///
    /// # Errors
    /// It is not there, or cannot sign.
    pub fn sign_here(&self, lifetime_s: u64, now: UnixTime) -> Result<String, RenewError> {
        let id = self.current.id();
        let ca = Ca::load(&self.folder, id.domain.clone())?.lifetime_s(lifetime_s);
        Ok(ca.issue(&self.request, id, now)?.chain_pem)
    }

    /// Takes the certificate and the CA's, PEM text, and makes them durable in place of those here.
    ///
    /// # Errors
    /// The certificate is not for this identity and its fresh key, not of the CA that is trusted, or
    /// not valid at `now`; the files cannot be written. Then all is as before.
    pub fn finish(self, chain_pem: &str, now: UnixTime) -> Result<Identity, RenewError> {
        if chain_pem.len() > CHAIN_BYTES_MAX {
            return Err(RenewError::Reply);
        }
        let chain = node::certificates(chain_pem.as_bytes()).ok_or(RenewError::Reply)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let ca = std::slice::from_ref(&self.current.ca);
        let identity = Identity::assemble(ca, chain, key)?;
        identity.check(now)?;
        if identity.id() != self.current.id() {
            return Err(RenewError::Other);
        }
        put(&self.folder, &identity)?;
        Ok(identity)
    }
}

/// Makes a fresh key, durable before it is asked a certificate for, and the request.
pub(super) fn fresh_key(folder: &Path) -> Result<(KeyPair, Vec<u8>), RenewError> {
    settle(folder)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(RenewError::Make)?;
    files::write(&folder.join(NEXT_KEY), key.serialize_pem().as_bytes(), MODE_PRIVATE)?;
    let request = request(&key).map_err(RenewError::Make)?;
    Ok((key, request))
}

/// Puts the key in its place whose certificate is in place: a crash came between.
fn settle(folder: &Path) -> Result<(), FileError> {
    let crashed = matches!(Identity::load_with(folder, "node.key"), Err(IdentityError::Key(_)))
        && Identity::load_with(folder, NEXT_KEY).is_ok();
    if crashed { files::rename(&folder.join(NEXT_KEY), &folder.join("node.key")) } else { Ok(()) }
}

/// A request for a certificate of this key, which names nobody.
pub(super) fn request(key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}

/// Puts the certificate of the fresh key in place, and then the key.
pub(super) fn put(folder: &Path, identity: &Identity) -> Result<(), FileError> {
    let text: String = identity.chain().iter().map(|cert| files::pem(cert)).collect();
    files::write(&folder.join("node.pem"), text.as_bytes(), MODE_PUBLIC)?;
    files::rename(&folder.join(NEXT_KEY), &folder.join("node.key"))
}
