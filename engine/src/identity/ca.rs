//! The built-in certificate authority: it signs the names of nodes of one trust domain.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKey, PublicKeyData, SanType, SerialNumber, date_time_ymd,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, UnixTime};

use super::files::{self, FileError};
use super::spiffe::{SpiffeId, TrustDomain};
use crate::policy::Kind;

/// How long a CA certificate is valid, in seconds: ten years.
pub const CA_VALIDITY_S: u64 = 10 * 365 * 86_400;
/// How long a certificate is valid unless another time is set, in seconds: 90 days.
pub const NODE_VALIDITY_S: u64 = 90 * 86_400;
/// How far before its making a certificate becomes valid, in seconds: clocks differ. A short-lived one
/// becomes valid a tenth of its life before.
const CLOCK_SKEW_S: u64 = 5 * 60;
/// A clock before 2025 was never set; certificates made then would be expired everywhere else.
const CLOCK_MIN_S: u64 = 1_735_689_600;
/// A clock at or after the year 9000 is wrong too, and near what X.509 can write.
const CLOCK_MAX_S: u64 = 221_845_392_000;
/// Most bytes of a certificate request; one with a P-256 key has about 300.
pub(super) const CSR_BYTES_MAX: usize = 8 << 10;
/// Bytes of an uncompressed P-256 point.
const P256_POINT_BYTES: usize = 65;

/// Why the CA could not be made, loaded or used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file of the CA could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The CA's certificate or key file does not hold one.
    #[error("the CA's {what} cannot be understood")]
    Broken {
        /// `certificate` or `private key`.
        what: &'static str,
    },
    /// The clock of this machine shows a time that cannot be.
    #[error("the clock of this machine is wrong: it shows {secs} s since 1970")]
    Clock {
        /// What it shows, in seconds since 1970.
        secs: u64,
    },
    /// The CA's own certificate is over.
    #[error("the CA's certificate has expired")]
    Expired,
    /// The request for a certificate is not one, or its signature is wrong.
    #[error("the certificate request is not valid")]
    Request(#[source] rcgen::Error),
    /// The request is too long.
    #[error("the certificate request has {len} bytes, more than {CSR_BYTES_MAX}")]
    RequestLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The request is for a kind of key that nodes do not use.
    #[error("the certificate request is not for an ECDSA P-256 key")]
    KeyKind,
    /// The certificate is for another trust domain than the CA's.
    #[error("this CA does not sign for the trust domain {found}")]
    Domain {
        /// The trust domain asked for.
        found: TrustDomain,
    },
    /// A certificate could not be put together.
    #[error("a certificate cannot be made")]
    Make(#[source] rcgen::Error),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

/// A certificate authority: its certificate, its private key and the trust domain it signs for.
#[derive(Debug)]
pub struct Ca {
    cert: CertificateDer<'static>,
    pub(super) key: KeyPair,
    domain: TrustDomain,
    not_after_s: u64,
    lifetime_s: u64,
}

/// A node's certificate, just made.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The node's certificate.
    pub cert: CertificateDer<'static>,
    /// The node's certificate and the CA's, as PEM text.
    pub chain_pem: String,
}

impl Ca {
    /// Makes a new CA with a new key (ECDSA P-256) for `domain`.
    ///
    /// # Errors
    /// The clock is wrong or the system gave no random bytes.
    pub fn create(domain: &TrustDomain, now: UnixTime) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::Make)?;
        let not_after_s = checked(now)? + CA_VALIDITY_S;
        let mut params = params(&format!("Portway CA {domain}"), now, not_after_s)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let cert = params.self_signed(&key).map_err(CaError::Make)?.der().clone();
        let (domain, lifetime_s) = (domain.clone(), NODE_VALIDITY_S);
        Ok(Self { cert, key, domain, not_after_s, lifetime_s })
    }

    /// Reads the CA of `domain` from `ca.pem` and `ca.key` in `folder`.
    ///
    /// # Errors
    /// A file is missing, not understood, or others can read the key.
    pub fn load(folder: &Path, domain: TrustDomain) -> Result<Self, CaError> {
        let key = files::read_key(&folder.join("ca.key"), 0o077)?;
        let broken_key = CaError::Broken { what: "private key" };
        let key = std::str::from_utf8(&key).ok().and_then(|pem| KeyPair::from_pem(pem).ok());
        let key = key.ok_or(broken_key)?;
        let pem = files::read(&folder.join("ca.pem"), files::PEM_BYTES_MAX)?;
        let broken = || CaError::Broken { what: "certificate" };
        let cert = CertificateDer::from_pem_slice(&pem).map_err(|_| broken())?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&cert).map_err(|_| broken())?;
        if !parsed.is_ca() || parsed.public_key().subject_public_key.data != key.public_key_raw() {
            return Err(broken());
        }
        let not_after_s = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Self { cert, key, domain, not_after_s, lifetime_s: NODE_VALIDITY_S })
    }

    /// The same, for certificates that are valid for so many seconds.
    #[must_use]
    pub fn lifetime_s(self, lifetime_s: u64) -> Self {
        Self { lifetime_s, ..self }
    }

    /// The CA's certificate.
    pub fn cert(&self) -> &CertificateDer<'static> {
        &self.cert
    }

    /// The trust domain it signs for.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Signs a certificate for the key in `csr` (PKCS #10, DER) under the name `id`. What names
    /// and uses the request itself asks for counts for nothing.
    ///
    /// The certificate is valid for [`NODE_VALIDITY_S`] or what was set, never longer than the CA's.
    ///
    /// # Errors
    /// The request is malformed, not signed by its own key or for another kind of key than P-256;
    /// `id` is of another trust domain; the CA has expired; the clock is wrong.
    pub fn issue(&self, csr: &[u8], id: &SpiffeId, now: UnixTime) -> Result<Issued, CaError> {
        self.sign(&requested_key(csr)?, id, now)
    }

    /// Signs a certificate for `key` under the name `id`.
    pub(super) fn sign(
        &self,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        now: UnixTime,
    ) -> Result<Issued, CaError> {
        let point = key.der_bytes();
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256
            || point.len() != P256_POINT_BYTES
            || point[0] != 4
        {
            return Err(CaError::KeyKind);
        }
        if id.domain != self.domain {
            return Err(CaError::Domain { found: id.domain.clone() });
        }
        if now.as_secs() >= self.not_after_s {
            return Err(CaError::Expired);
        }
        let not_after_s = (checked(now)? + self.lifetime_s).min(self.not_after_s);
        let params = node_params(id, now, not_after_s)?;
        let cert = params.signed_by(key, &self.issuer()?).map_err(CaError::Make)?;
        let chain_pem = files::pem(cert.der()) + &files::pem(&self.cert);
        Ok(Issued { cert: cert.der().clone(), chain_pem })
    }

    pub(super) fn issuer(&self) -> Result<Issuer<'static, &KeyPair>, CaError> {
        Issuer::from_ca_cert_der(&self.cert, &self.key).map_err(CaError::Make)
    }
}

/// The key in a request for a certificate, which the request proves to hold.
pub(super) fn requested_key(csr: &[u8]) -> Result<PublicKey, CaError> {
    if csr.len() > CSR_BYTES_MAX {
        return Err(CaError::RequestLong { len: csr.len() });
    }
    let csr = CertificateSigningRequestDer::from(csr);
    let csr = CertificateSigningRequestParams::from_der(&csr).map_err(CaError::Request)?;
    Ok(csr.public_key)
}

/// What stands in a node's certificate.
pub(super) fn node_params(
    id: &SpiffeId,
    now: UnixTime,
    not_after_s: u64,
) -> Result<CertificateParams, CaError> {
    let mut params = params(id.node.as_str(), now, not_after_s)?;
    params.subject_alt_names =
        vec![SanType::URI(id.to_string().try_into().map_err(CaError::Make)?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    // A workload opens sessions and never accepts one.
    if id.kind == Kind::Node {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(name: &str, now: UnixTime, not_after_s: u64) -> Result<CertificateParams, CaError> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| CaError::Random)?;
    // A serial number is positive and its first byte must not vanish in DER (RFC 5280, 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    let epoch = date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let now_s = checked(now)?;
    let back_s = CLOCK_SKEW_S.min(not_after_s.saturating_sub(now_s) / 10);
    params.not_before = epoch + Duration::from_secs(now_s - back_s);
    params.not_after = epoch + Duration::from_secs(not_after_s);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn checked(now: UnixTime) -> Result<u64, CaError> {
    let secs = now.as_secs();
    if (CLOCK_MIN_S..CLOCK_MAX_S).contains(&secs) { Ok(secs) } else { Err(CaError::Clock { secs }) }
}
