//! What the decoders of this module promise; `crate::fuzzing` lists them.

use std::sync::LazyLock;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, PKCS_ED25519, SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};

use super::enrol::{ED25519_PKCS8_HEAD, bootstrap};
use super::invites::Book;
use super::node::CERTS_MAX;
use super::spiffe::{SpiffeId, TrustDomain};
use super::token::{ADDRESSES_MAX, PREFIX, Token, VERSION, checksum};
use super::verify::{Leaf, PeerError, Trust, Usage};
use super::{base64url as base64, ca, files, node};

/// 2026-06-01, in seconds since 1970.
const NOW_S: u64 = 1_780_272_000;
const DOMAIN: &str = "portway-0123456789abcdef";

pub(crate) fn base64url(data: &[u8]) -> bool {
    assert_eq!(base64::decode(&base64::encode(data)).as_deref(), Some(data));
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Some(bytes) = base64::decode(text) else { return false };
    assert_eq!(base64::encode(&bytes), text);
    true
}

pub(crate) fn base64url_seeds() -> Vec<Vec<u8>> {
    ["", "Zg", "Zm8", "Zm9v", "-_8", "Zm9vYg"].map(|text| text.as_bytes().to_vec()).into()
}

/// A token's text, or after a NUL byte what it is made of, to which the checksum is added.
pub(crate) fn token(data: &[u8]) -> bool {
    let text = match data.split_first() {
        Some((0, content)) => {
            let sum = checksum(content);
            format!("{PREFIX}{}", base64::encode(&[content, &sum].concat()))
        }
        _ => match std::str::from_utf8(data) {
            Ok(text) => text.to_owned(),
            Err(_) => return false,
        },
    };
    let Ok(token) = text.parse::<Token>() else { return false };
    assert!((1..=ADDRESSES_MAX).contains(&token.addresses().len()));
    assert_eq!(token.reveal(), text);
    assert!(token.public_key().is_some());
    true
}

pub(crate) fn token_seeds() -> Vec<Vec<u8>> {
    let content = |addresses: &[&str]| {
        let mut bytes = vec![VERSION, addresses.len() as u8];
        for address in addresses {
            bytes.extend_from_slice(&(address.len() as u16).to_be_bytes());
            bytes.extend_from_slice(address.as_bytes());
        }
        bytes.extend_from_slice(&[7; 64]);
        bytes
    };
    let three = content(&["10.0.0.7:7411", "[fd00::7]:7411", "gpu-7.onprem:7411"]);
    let one = content(&["a:1"]);
    let text = format!("{PREFIX}{}", base64::encode(&[&one[..], &checksum(&one)].concat()));
    vec![[&[0], &three[..]].concat(), [&[0], &one[..]].concat(), text.into_bytes()]
}

pub(crate) fn spiffe(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    if let Ok(id) = text.parse::<SpiffeId>() {
        assert_eq!(id.to_string(), text);
        return true;
    }
    let Ok(domain) = text.parse::<TrustDomain>() else { return false };
    assert_eq!(domain.as_str(), text);
    true
}

pub(crate) fn spiffe_seeds() -> Vec<Vec<u8>> {
    [
        id_text("gpu-7").as_str(),
        "spiffe://d/tier/public/site/s/node/n",
        "spiffe://d/tier/public/site/s/workload/train-7",
        DOMAIN,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

fn id_text(node: &str) -> String {
    format!("spiffe://{DOMAIN}/tier/private/site/onprem/node/{node}")
}

/// A CA and what it signed, the same in every run.
struct Lab {
    trust: Trust,
    /// Good certificates.
    signed: Vec<CertificateDer<'static>>,
    /// Others: self-signed, of a joiner, without a name, with two.
    others: Vec<CertificateDer<'static>>,
}

static LAB: LazyLock<Lab> = LazyLock::new(|| lab().expect("the certificates of the lab are made"));

fn key(number: u8) -> Result<KeyPair, rcgen::Error> {
    let pkcs8 = PrivatePkcs8KeyDer::from([&ED25519_PKCS8_HEAD[..], &[number; 32]].concat());
    KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ED25519)
}

fn params(name: &str, uris: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&[0x41; 16]));
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    for uri in uris {
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
    }
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn lab() -> Result<Lab, rcgen::Error> {
    let (ca_key, node_key) = (key(1)?, key(2)?);
    let mut ca_params = params("Portway CA", &[])?;
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca_params.extended_key_usages.clear();
    let ca = ca_params.self_signed(&ca_key)?.der().clone();
    let issuer = Issuer::new(ca_params, ca_key);
    let signed_for = |name: &str, uris: &[String]| {
        Ok::<_, rcgen::Error>(params(name, uris)?.signed_by(&node_key, &issuer)?.der().clone())
    };
    let (one, two) = (id_text("gpu-7"), id_text("gpu-8"));
    let uris = [one.clone(), two.clone()];
    let signed = vec![signed_for("gpu-7", &uris[..1])?, signed_for("gpu-8", &uris[1..])?];
    let mut others = vec![signed_for("none", &[])?, signed_for("two", &uris)?];
    others.push(params("gpu-7", &uris[..1])?.self_signed(&node_key)?.der().clone());
    for seed in token_seeds() {
        let text = String::from_utf8(seed).unwrap_or_default();
        if let Ok(token) = text.parse() {
            others.push(bootstrap(&token)?.0);
        }
    }
    let trust = Trust::new(std::slice::from_ref(&ca), DOMAIN.parse().ok());
    others.push(ca);
    Ok(Lab { trust: trust.ok_or(rcgen::Error::CouldNotParseCertificate)?, signed, others })
}

/// A certificate that is accepted is, to the byte, one that the CA signed.
pub(crate) fn certificate(data: &[u8]) -> bool {
    let lab = &*LAB;
    let der = CertificateDer::from(data);
    let Ok(leaf) = Leaf::read(&der) else { return false };
    let id = leaf.spiffe_id();
    if leaf.bootstrap_key().is_some() {
        assert_eq!(id, Err(PeerError::NoUri), "a joiner names nobody");
    }
    for usage in [Usage::Client, Usage::Server] {
        for secs in [NOW_S, 0, leaf.not_before_s, leaf.not_after_s, u64::MAX] {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(secs));
            match lab.trust.judge(&leaf, &[], usage, now) {
                Ok(judged) => {
                    assert_eq!(Ok(&judged), id.as_ref());
                    assert!(lab.signed.iter().any(|signed| **signed == *data), "signed by nobody");
                }
                Err(error) => assert!(!error.to_string().is_empty() && !error.hint().is_empty()),
            }
        }
    }
    true
}

pub(crate) fn certificate_seeds() -> Vec<Vec<u8>> {
    LAB.signed.iter().chain(&LAB.others).map(|der| der.to_vec()).collect()
}

pub(crate) fn chain(data: &[u8]) -> bool {
    let Some(chain) = node::certificates(data) else { return false };
    assert!((1..=CERTS_MAX).contains(&chain.len()));
    let text: String = chain.iter().map(|der| files::pem(der)).collect();
    assert_eq!(node::certificates(text.as_bytes()), Some(chain));
    true
}

pub(crate) fn chain_seeds() -> Vec<Vec<u8>> {
    let text: String = LAB.signed.iter().map(|der| files::pem(der)).collect();
    vec![text.into_bytes(), files::pem(b"der").into_bytes()]
}

/// A request that is accepted names a key, and is no longer than it may be.
pub(crate) fn request(data: &[u8]) -> bool {
    use rcgen::PublicKeyData;
    let Ok(key) = ca::requested_key(data) else { return false };
    assert!(!key.der_bytes().is_empty());
    assert!(data.len() <= ca::CSR_BYTES_MAX);
    true
}

pub(crate) fn request_seeds() -> Vec<Vec<u8>> {
    let request = |number| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        Ok::<_, rcgen::Error>(params.serialize_request(&key(number)?)?.der().to_vec())
    };
    [request(3), request(4)].into_iter().flatten().collect()
}

pub(crate) fn invites(data: &[u8]) -> bool {
    let Ok(book) = Book::decode(data) else { return false };
    let text = book.encode().expect("a book is written");
    let again = Book::decode(&text).expect("what was written is read");
    assert_eq!(again.encode().ok(), Some(text));
    true
}

pub(crate) fn invites_seeds() -> Vec<Vec<u8>> {
    let entry = |name: &str, issued: &str| {
        format!(
            r#"{{"key":"BwcHBw","name":"{name}","site":"onprem","tier":"private","expires_s":1780272000{issued}}}"#
        )
    };
    let issued = r#","issued":{"key_sha256":"Zm9v","chain_pem":"-----BEGIN CERTIFICATE-----\n"}"#;
    let book = |entries: &str| format!(r#"{{"format":1,"invites":[{entries}]}}"#).into_bytes();
    let workload = entry("train-7", r#","workload":true"#);
    vec![book(""), book(&[entry("gpu-7", ""), workload, entry("gpu-8", issued)].join(","))]
}
