//! Who vouches for roles: the CA of the trust domain, or a node for itself.

use std::path::Path;

use rcgen::SigningKey;
use rustls::SignatureScheme;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::audit_key::{AuditKey, AuditKeyError, AuditSignature};
use super::ca::{Ca, CaError};
use super::files::{self, FileError};
use super::node::Identity;
use super::tls;
use crate::policy::{Bundle, Roles};

/// Whose signature a bundle of roles has, and so where it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voucher {
    /// The CA's: at every node of the trust domain.
    Ca,
    /// This node's own key: here only.
    Node,
}

/// Why roles were not signed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The CA's files cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The CA's key is not there or is of no use.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// This node's own key is not there and cannot be made.
    #[error(transparent)]
    Key(#[from] AuditKeyError),
    /// The CA's key does not sign.
    #[error("the CA's key cannot sign the roles")]
    Sign(#[source] rcgen::Error),
}

/// Why a bundle of roles does not count here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It is for another trust domain.
    #[error("the roles are those of the trust domain {found}")]
    Domain {
        /// Which one.
        found: String,
    },
    /// Neither the CA nor this node signed it, or it was changed since.
    #[error("the roles are signed neither by the CA of the trust domain nor by this node")]
    Signature,
}

impl Identity {
    /// Signs roles: with the CA's key where it lies below `folder`, the folder of identities, and else
    /// with the key that seals this node's audit log.
    ///
    /// # Errors
    /// A key cannot be read, made or used.
    pub fn seal_roles(&self, folder: &Path, roles: Roles) -> Result<(Bundle, Voucher), SealError> {
        let domain = &self.id().domain;
        let message = Bundle::message(domain.as_str(), &roles);
        let (algorithm, signature, voucher) = if files::exists(&folder.join("ca.key"))? {
            let ca = Ca::load(folder, domain.clone())?;
            let signature = ca.key.sign(&message).map_err(SealError::Sign)?;
            (SignatureScheme::ECDSA_NISTP256_SHA256, signature, Voucher::Ca)
        } else {
            let signature = AuditKey::load_or_create(folder)?.sign(&message);
            (SignatureScheme::ED25519, signature.0.to_vec(), Voucher::Node)
        };
        let domain = domain.to_string();
        let algorithm = u16::from(algorithm);
        Ok((Bundle { domain, roles, algorithm, signature }, voucher))
    }

    /// Whose signature a bundle has. `own` is the key that seals this node's audit log, if it has one.
    ///
    /// # Errors
    /// It is for another trust domain, or has no signature that counts here.
    pub fn judge_roles(
        &self,
        bundle: &Bundle,
        own: Option<&AuditKey>,
    ) -> Result<Voucher, BundleError> {
        if bundle.domain != self.id().domain.as_str() {
            return Err(BundleError::Domain { found: bundle.domain.clone() });
        }
        let message = Bundle::message(&bundle.domain, &bundle.roles);
        let scheme = SignatureScheme::from(bundle.algorithm);
        if signed(&self.ca, scheme, &message, &bundle.signature) {
            return Ok(Voucher::Ca);
        }
        let own = own.filter(|_| scheme == SignatureScheme::ED25519);
        let signature = <[u8; 64]>::try_from(&bundle.signature[..]).map(AuditSignature);
        match (own, signature) {
            (Some(own), Ok(signature)) if own.public().verify(&message, &signature) => {
                Ok(Voucher::Node)
            }
            _ => Err(BundleError::Signature),
        }
    }
}

/// Whether the key in a certificate signed a message.
fn signed(cert: &CertificateDer<'_>, scheme: SignatureScheme, message: &[u8], by: &[u8]) -> bool {
    let Ok(cert) = EndEntityCert::try_from(cert) else { return false };
    let known = tls::algorithms();
    let known = known.mapping.iter().filter(|(other, _)| *other == scheme);
    known
        .flat_map(|(_, algorithms)| algorithms.iter())
        .any(|algorithm| cert.verify_signature(*algorithm, message, by).is_ok())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls_pki_types::UnixTime;

    use super::*;
    use crate::base::Tier;
    use crate::policy::{Grant, Principal};

    /// 2026-06-01.
    const NOW_S: u64 = 1_780_272_000;

    fn node(home: &Path) -> Identity {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW_S));
        let (name, site) = ("gpu-1".parse().unwrap(), "onprem".parse().unwrap());
        Identity::init(home, name, site, Tier::Private, now).unwrap()
    }

    fn roles(identity: &Identity) -> Roles {
        let grant = Grant {
            identity: Principal::from(identity.id()),
            role: "reader".parse().unwrap(),
            dataset: crate::base::RelPath::root(),
        };
        Roles::default().grant(grant, None, 0).unwrap()
    }

    #[test]
    fn roles_that_the_ca_signed_count_and_changed_or_foreign_ones_do_not() {
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ours, stranger) = (node(home.path()), node(elsewhere.path()));
        let folder = Identity::folder(home.path());
        let (bundle, voucher) = ours.seal_roles(&folder, roles(&ours)).unwrap();
        assert_eq!(voucher, Voucher::Ca);
        assert_eq!(ours.judge_roles(&bundle, None), Ok(Voucher::Ca));
        let again = Bundle::decode(&bundle.encode()).unwrap();
        assert_eq!(ours.judge_roles(&again, None), Ok(Voucher::Ca));

        let refused = |bundle: &Bundle| ours.judge_roles(bundle, None);
        let next = bundle.roles.revoke_identity(&Principal::from(ours.id())).unwrap();
        let changed = Bundle { roles: next, ..bundle.clone() };
        assert_eq!(refused(&changed), Err(BundleError::Signature));
        let mut flipped = bundle.clone();
        flipped.signature[20] ^= 1;
        assert_eq!(refused(&flipped), Err(BundleError::Signature));
        let other = Bundle { algorithm: 0, ..bundle.clone() };
        assert_eq!(refused(&other), Err(BundleError::Signature));
        let found = bundle.domain.clone();
        assert_eq!(stranger.judge_roles(&bundle, None), Err(BundleError::Domain { found }));
        // A foreign CA's signature under our domain's name.
        let domain = ours.id().domain.to_string();
        let folder = Identity::folder(elsewhere.path());
        let (foreign, _) = stranger.seal_roles(&folder, roles(&ours)).unwrap();
        assert_eq!(refused(&Bundle { domain, ..foreign }), Err(BundleError::Signature));
    }

    #[test]
    fn without_the_ca_a_node_vouches_for_itself_alone() {
        let home = tempfile::tempdir().unwrap();
        let ours = node(home.path());
        let folder = Identity::folder(home.path());
        std::fs::remove_file(folder.join("ca.key")).unwrap();
        let (bundle, voucher) = ours.seal_roles(&folder, roles(&ours)).unwrap();
        assert_eq!(voucher, Voucher::Node);
        let own = AuditKey::load_or_create(&folder).unwrap();
        assert_eq!(ours.judge_roles(&bundle, Some(&own)), Ok(Voucher::Node));
        assert_eq!(ours.judge_roles(&bundle, None), Err(BundleError::Signature));
        let other = AuditKey::from_seed([7; 32]);
        assert_eq!(ours.judge_roles(&bundle, Some(&other)), Err(BundleError::Signature));
        // The same signature under the name of another algorithm.
        let renamed = Bundle { algorithm: 0x0403, ..bundle };
        assert_eq!(ours.judge_roles(&renamed, Some(&own)), Err(BundleError::Signature));
    }
}
