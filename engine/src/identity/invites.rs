//! Invitations: who may enrol, as whom and until when. Kept by the node that has the CA.

use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};

use rcgen::PublicKeyData;

use super::base64url;
use super::ca::{self, Ca, CaError};
use super::files::{self, FileError};
use super::node::{Identity, IdentityError};
use super::spiffe::SpiffeId;
use super::token::{Token, TokenError};
use crate::base::{NodeName, SiteName, Tier};
use crate::policy::Kind;

/// How long an invitation holds unless another time is asked for, in seconds: one hour.
pub const INVITE_TTL_S: u64 = 3600;
/// Most invitations that are kept.
pub const INVITES_MAX: usize = 256;
/// Most bytes of the invitations' file; each takes about 2 kB once used.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// How long an expired invitation is remembered, so that who comes late is told so, in seconds.
const KEEP_EXPIRED_S: u64 = 7 * 86_400;
/// The version of the file's format.
const FORMAT: u32 = 1;

/// What an invited node or workload will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Its name.
    pub name: NodeName,
    /// Which of the two it is.
    pub kind: Kind,
    /// Its site.
    pub site: SiteName,
    /// The site's tier.
    pub tier: Tier,
    /// Until when it may enrol.
    pub expires_at: UnixTime,
    /// Whether its certificate was issued already.
    pub used: bool,
}

/// Why an enrolment is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PendingError {
    /// No invitation has this key.
    #[error("the token is not known here")]
    Unknown,
    /// The invitation is over.
    #[error("the invitation of {name} has expired")]
    Expired {
        /// Who was invited.
        name: NodeName,
    },
    /// The invitation was used by a joiner with another key of its own.
    #[error("the invitation of {name} was used already")]
    Used {
        /// Who was invited.
        name: NodeName,
    },
    /// The invitations cannot be read, so nobody may enrol.
    #[error("the invitations cannot be read: {detail}")]
    Unreadable {
        /// Why not.
        detail: String,
    },
}

/// Why an invitation was not made or not redeemed.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// This node has no CA.
    #[error("this node has no CA; only the first node of a trust domain invites others")]
    NoCa,
    /// This node's own identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The CA cannot be used, or refuses the request.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file of invitations does not hold what this version writes.
    #[error("{} cannot be understood", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The mistake in it.
        source: serde_json::Error,
    },
    /// The token cannot be made.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The name is this node's.
    #[error("{name} is this node")]
    OwnName {
        /// The name.
        name: NodeName,
    },
    /// An invitation must hold for some time.
    #[error("an invitation holds for 1 s to {INVITE_TTL_S_MAX} s, not {ttl_s} s")]
    Ttl {
        /// The time asked for, in seconds.
        ttl_s: u64,
    },
    /// Too many are open.
    #[error("{INVITES_MAX} invitations are open already")]
    Full,
    /// The invitation does not count.
    #[error(transparent)]
    Refused(#[from] PendingError),
}

/// The longest that an invitation may hold, in seconds: a week.
const INVITE_TTL_S_MAX: u64 = 7 * 86_400;

/// The invitations of a node that has the CA.
///
/// Every call reads the file anew and every change is one atomic write under a lock, so several
/// processes may share it: one that invites and one that serves.
#[derive(Debug)]
pub struct Invites {
    identity: Identity,
    ca: Ca,
    path: PathBuf,
    lock: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Book {
    format: u32,
    invites: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The one-time public key.
    key: String,
    name: NodeName,
    site: SiteName,
    tier: Tier,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    workload: bool,
    expires_s: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issued: Option<Record>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// SHA-256 of the certified key.
    key_sha256: String,
    chain_pem: String,
}

impl Invites {
    /// Opens the invitations below a node's home directory.
    ///
    /// # Errors
    /// The node has no identity or no CA, or they cannot be used.
    pub fn open(home: &Path) -> Result<Self, InviteError> {
        let identity = Identity::load(home)?;
        let folder = Identity::folder(home);
        let ca = match Ca::load(&folder, identity.id().domain.clone()) {
            Err(CaError::File(error)) if error.is_missing() => return Err(InviteError::NoCa),
            ca => ca?,
        };
        let (path, lock) = (folder.join("invites.json"), folder.join("invites.lock"));
        Ok(Self { identity, ca, path, lock })
    }

    /// The same, for certificates that are valid for so many seconds.
    #[must_use]
    pub fn lifetime_s(self, lifetime_s: u64) -> Self {
        Self { ca: self.ca.lifetime_s(lifetime_s), ..self }
    }

    /// Signs another certificate for somebody who showed that it is `id`, for the key in `csr`
    /// (PKCS #10, DER); returns it with the CA's as PEM text.
    ///
    /// # Errors
    /// As for [`Ca::issue`].
    pub fn renew(&self, id: &SpiffeId, csr: &[u8], now: UnixTime) -> Result<String, InviteError> {
        Ok(self.ca.issue(csr, id, now)?.chain_pem)
    }

    /// Invites a node or a workload: whoever shows the token within `ttl_s` seconds gets a certificate for
    /// `name`. `addresses` are where this node listens, as `host:port`, at most
    /// [`super::ADDRESSES_MAX`].
    ///
    /// A name may be invited again, so that a lost node can be replaced under its name; whoever has
    /// the lost node's key keeps a certificate, and can renew it, until the identity is revoked.
    ///
    /// # Errors
    /// The name is this node's own, an address or the time is out of bounds, too many invitations
    /// are open, or the file cannot be written.
    pub fn create(
        &self,
        (name, kind): (NodeName, Kind),
        (site, tier): (SiteName, Tier),
        ttl_s: u64,
        addresses: &[String],
        now: UnixTime,
    ) -> Result<Token, InviteError> {
        if kind == Kind::Node && name == self.identity.id().node {
            return Err(InviteError::OwnName { name });
        }
        if !(1..=INVITE_TTL_S_MAX).contains(&ttl_s) {
            return Err(InviteError::Ttl { ttl_s });
        }
        let token = Token::create(addresses, self.identity.ca_fingerprint())?;
        let key = token.public_key().ok_or(TokenError::Random)?;
        let now_s = now.as_secs();
        let _held = files::lock(&self.lock)?;
        let mut book = self.read()?;
        book.invites.retain(|entry| entry.expires_s.saturating_add(KEEP_EXPIRED_S) > now_s);
        if book.invites.len() >= INVITES_MAX {
            book.invites.retain(|entry| entry.expires_s > now_s);
        }
        if book.invites.len() >= INVITES_MAX {
            return Err(InviteError::Full);
        }
        let (key, expires_s) = (base64url::encode(&key), now_s.saturating_add(ttl_s));
        let workload = kind == Kind::Workload;
        book.invites.push(Entry { key, name, site, tier, workload, expires_s, issued: None });
        self.write(&book)?;
        Ok(token)
    }

    /// All invitations that are remembered, expired ones included, oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn list(&self) -> Result<Vec<Invitation>, InviteError> {
        Ok(self.read()?.invites.iter().map(Entry::invitation).collect())
    }

    /// Takes back the invitations of `name`, and says how many there were. A certificate that was
    /// issued already stays valid.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn withdraw(&self, name: &NodeName) -> Result<usize, InviteError> {
        let _held = files::lock(&self.lock)?;
        let mut book = self.read()?;
        let before = book.invites.len();
        book.invites.retain(|entry| entry.name != *name);
        let withdrawn = before - book.invites.len();
        if withdrawn > 0 {
            self.write(&book)?;
        }
        Ok(withdrawn)
    }

    /// The invitation whose one-time public key this is.
    ///
    /// One that was used is still there until it expires: its joiner may not have got the reply.
    ///
    /// # Errors
    /// There is none, it has expired, or the file cannot be read.
    pub fn pending(&self, key: &[u8; 32], now: UnixTime) -> Result<Invitation, PendingError> {
        let book = self.read().map_err(|error| PendingError::Unreadable {
            detail: std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
        })?;
        book.entry(key, now).map(|i| book.invites[i].invitation())
    }

    /// Issues the certificate of an invitation for the key in `csr` (PKCS #10, DER), and returns
    /// it with the CA's as PEM text.
    ///
    /// An invitation gives one certificate. The same key asked for again gets the same
    /// certificate, so a reply that was lost can be fetched again until the invitation expires.
    ///
    /// # Errors
    /// The invitation is unknown, expired or used with another key; the request is not valid; the
    /// file cannot be written, in which case nothing was issued.
    pub fn redeem(&self, key: &[u8; 32], csr: &[u8], now: UnixTime) -> Result<String, InviteError> {
        let node_key = ca::requested_key(csr)?;
        let spki = node_key.subject_public_key_info();
        let key_sha256 = base64url::encode(digest(&SHA256, &spki).as_ref());
        let _held = files::lock(&self.lock)?;
        let mut book = self.read()?;
        let place = book.entry(key, now)?;
        let entry = &mut book.invites[place];
        match &entry.issued {
            Some(record) if record.key_sha256 == key_sha256 => return Ok(record.chain_pem.clone()),
            Some(_) => return Err(PendingError::Used { name: entry.name.clone() }.into()),
            None => {}
        }
        let id = SpiffeId {
            domain: self.ca.domain().clone(),
            tier: entry.tier,
            site: entry.site.clone(),
            kind: entry.kind(),
            node: entry.name.clone(),
        };
        let chain_pem = self.ca.sign(&node_key, &id, now)?.chain_pem;
        entry.issued = Some(Record { key_sha256, chain_pem: chain_pem.clone() });
        self.write(&book)?;
        Ok(chain_pem)
    }

    fn read(&self) -> Result<Book, InviteError> {
        let bytes = match files::read(&self.path, FILE_BYTES_MAX) {
            Err(error) if error.is_missing() => {
                return Ok(Book { format: FORMAT, invites: Vec::new() });
            }
            bytes => bytes?,
        };
        Book::decode(&bytes)
            .map_err(|source| InviteError::Broken { path: self.path.clone(), source })
    }

    fn write(&self, book: &Book) -> Result<(), InviteError> {
        let broken = |source| InviteError::Broken { path: self.path.clone(), source };
        let bytes = book.encode().map_err(broken)?;
        Ok(files::write(&self.path, &bytes, files::MODE_PRIVATE)?)
    }
}

impl Book {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let book: Self = serde_json::from_slice(bytes)?;
        if book.format != FORMAT {
            let found = format!("its format is {}, not {FORMAT}", book.format);
            return Err(serde::de::Error::custom(found));
        }
        Ok(book)
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec_pretty(self)
    }

    /// Where the invitation with this key is, if it counts.
    fn entry(&self, key: &[u8; 32], now: UnixTime) -> Result<usize, PendingError> {
        let key = base64url::encode(key);
        let place = self.invites.iter().position(|entry| entry.key == key);
        let place = place.ok_or(PendingError::Unknown)?;
        let entry = &self.invites[place];
        if entry.expires_s <= now.as_secs() {
            return Err(PendingError::Expired { name: entry.name.clone() });
        }
        Ok(place)
    }
}

impl Entry {
    fn kind(&self) -> Kind {
        if self.workload { Kind::Workload } else { Kind::Node }
    }

    fn invitation(&self) -> Invitation {
        Invitation {
            name: self.name.clone(),
            kind: self.kind(),
            site: self.site.clone(),
            tier: self.tier,
            expires_at: UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.expires_s)),
            used: self.issued.is_some(),
        }
    }
}
