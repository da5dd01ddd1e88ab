//! Roles as bytes: a bundle, which is signed, so that nodes can take it from each other.

use std::collections::{BTreeMap, BTreeSet};

use super::fields::{Reader, Writer, bounded, wrong};
use super::request::PATH_BYTES_MAX;
use super::roles::{GRANTS_MAX, Grant, REVOKED_MAX, Role, Roles};
use crate::base::Digest;
use crate::manifest::DecodeError;

/// Largest bundle, in bytes, and so the most that roles may take.
pub const BUNDLE_BYTES_MAX: usize = 1 << 20;
/// Longest trust domain, in bytes (SPIFFE-ID 2.3).
const DOMAIN_BYTES_MAX: usize = 255;
/// Largest signature, in bytes; that of RSA with 8,192 bits has 1,024.
const SIGNATURE_BYTES_MAX: usize = 2048;
/// Bytes for what is around the roles.
const FRAME_BYTES_MAX: usize = 4096;
/// Most bytes of roles.
pub(super) const BODY_BYTES_MAX: usize = BUNDLE_BYTES_MAX - FRAME_BYTES_MAX;

/// What a bundle begins with.
const MAGIC: &[u8; 8] = b"PWROLES1";
/// What precedes the roles in what is signed; it is no beginning of anything in TLS.
const CONTEXT: &[u8] = b"portway roles 1\0";

/// Roles of a trust domain, with a signature. Nothing in it counts before that was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The trust domain whose roles they are.
    pub domain: String,
    /// The roles.
    pub roles: Roles,
    /// Algorithm of the signature, as TLS 1.3 numbers them (RFC 8446, 4.2.3).
    pub algorithm: u16,
    /// The signature over [`Bundle::message`].
    pub signature: Vec<u8>,
}

/// Which roles somebody has: what nodes tell each other of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolesMark {
    /// The version of the roles.
    pub version: u64,
    /// BLAKE3 of what the CA signed.
    pub digest: Digest,
}

impl Bundle {
    /// Which roles these are, whatever the signature.
    pub fn mark(&self) -> RolesMark {
        let digest = Digest::of(&Self::message(&self.domain, &self.roles));
        RolesMark { version: self.roles.version, digest }
    }

    /// What is signed for these roles of a trust domain.
    pub fn message(domain: &str, roles: &Roles) -> Vec<u8> {
        [CONTEXT, &body(domain, roles)].concat()
    }

    /// The bundle as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let body = body(&self.domain, &self.roles);
        let mut out = Writer::new(MAGIC);
        out.u64(body.len() as u64);
        out.array(&body);
        out.u16(self.algorithm.into());
        out.bytes16(&self.signature);
        out.finish()
    }

    /// The bundle in some bytes. There is one form of each: what decodes encodes to the same bytes.
    ///
    /// # Errors
    /// The bytes are no bundle, or a bound is passed.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        bounded("bytes of the bundle", bytes.len(), BUNDLE_BYTES_MAX)?;
        let mut fields = Reader::new(bytes);
        if fields.array("magic")? != *MAGIC {
            return wrong("magic");
        }
        let len = usize::try_from(fields.u64("length")?).or(wrong("length"))?;
        let mut body =
            Reader::new(fields.slice("length", bounded("length", len, BODY_BYTES_MAX)?)?);
        let (domain, roles) = roles(&mut body)?;
        body.end()?;
        let algorithm = fields.u16("algorithm")?;
        let signature = fields.bytes16("signature", SIGNATURE_BYTES_MAX)?.to_vec();
        fields.end()?;
        Ok(Self { domain, roles, algorithm, signature })
    }
}

fn body(domain: &str, roles: &Roles) -> Vec<u8> {
    let mut out = Writer::new(&[]);
    out.text8(domain);
    out.u64(roles.version);
    out.u16(roles.grants.len());
    for (grant, until) in &roles.grants {
        out.text16(grant.identity.as_str());
        out.text8(grant.role.as_str());
        out.path(&grant.dataset);
        out.u8(u8::from(until.is_some()));
        if let Some(until) = until {
            out.array(&until.to_le_bytes());
        }
    }
    out.u16(roles.revoked.len());
    for identity in &roles.revoked {
        out.text16(identity.as_str());
    }
    out.finish()
}

fn roles(fields: &mut Reader<'_>) -> Result<(String, Roles), DecodeError> {
    let domain: String = fields.name("trust domain")?;
    if !(1..=DOMAIN_BYTES_MAX).contains(&domain.len()) {
        return wrong("trust domain");
    }
    let version = fields.u64("version")?;
    let mut grants = BTreeMap::new();
    for _ in 0..bounded("grants", fields.u16("grants")?.into(), GRANTS_MAX)? {
        let identity = fields.principal("identity")?;
        let role: Role = fields.name("role")?;
        let dataset = fields.path()?;
        bounded("bytes of a dataset's path", dataset.as_bytes().len(), PATH_BYTES_MAX)?;
        let until = match fields.u8("until")? {
            0 => None,
            1 => Some(i64::from_le_bytes(fields.array("until")?)),
            _ => return wrong("until"),
        };
        let grant = Grant { identity, role, dataset };
        if grants.last_key_value().is_some_and(|(last, _)| *last >= grant) {
            return wrong("order of grants");
        }
        grants.insert(grant, until);
    }
    let mut revoked = BTreeSet::new();
    for _ in 0..bounded("revoked identities", fields.u16("revoked")?.into(), REVOKED_MAX)? {
        let identity = fields.principal("identity")?;
        if revoked.last().is_some_and(|last| *last >= identity) {
            return wrong("order of identities");
        }
        revoked.insert(identity);
    }
    // A revoked identity has no grants: `Roles` keeps it so.
    if grants.keys().any(|grant| revoked.contains(&grant.identity)) {
        return wrong("revoked");
    }
    Ok((domain, Roles { version, grants, revoked }))
}

impl Roles {
    /// How many bytes they take in a bundle, whatever the trust domain.
    pub(super) fn encoded_len(&self) -> usize {
        body("", self).len() + DOMAIN_BYTES_MAX
    }
}
