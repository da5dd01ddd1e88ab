//! The words of a request and a decision, as records of the audit log hold them.

use std::fmt;
use std::str::FromStr;

use crate::base::{Digest, words};

/// Longest SPIFFE id, in bytes (SPIFFE-ID 2.3).
pub const WHO_BYTES_MAX: usize = 2048;
/// Longest reason that is kept, in bytes.
pub const REASON_BYTES_MAX: usize = 1024;

/// A text is not a SPIFFE id that a record takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a SPIFFE id is 'spiffe://' and more, at most 2048 bytes of visible ASCII")]
pub struct ParsePrincipalError;

/// Who acts: the SPIFFE id of a node or a workload, as text. Whose certificate said so is the
/// matter of the module `identity`; here only what could break a line is kept out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(String);

impl Principal {
    /// An id that the caller has checked already.
    pub(crate) fn checked(text: String) -> Self {
        Self(text)
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Principal {
    type Err = ParsePrincipalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = text.strip_prefix("spiffe://").ok_or(ParsePrincipalError)?;
        let visible = path.bytes().all(|byte| byte.is_ascii_graphic());
        if path.is_empty() || text.len() > WHO_BYTES_MAX || !visible {
            return Err(ParsePrincipalError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text for people, cut to [`REASON_BYTES_MAX`] bytes at a character.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Reason(String);

impl Reason {
    /// A reason, cut if it is too long: a decision must not go unrecorded because of its words.
    pub fn new(text: &str) -> Self {
        Self(text[..text.floor_char_boundary(REASON_BYTES_MAX)].to_owned())
    }

    /// The text, which may hold any character.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which policy decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PolicyVersion {
    /// The number that grows with every change.
    pub number: u64,
    /// The digest of all that decides: the text, the classes, the jurisdictions of sites.
    pub digest: Digest,
}

words! {
    /// What somebody wants to do.
    Action {
        /// Send a dataset.
        Push = 1 "push",
        /// Fetch a dataset.
        Pull = 2 "pull",
        /// See names, sizes and digests.
        List = 3 "list",
        /// Compare a dataset with its manifest.
        Verify = 4 "verify",
        /// Change a dataset's class.
        Relabel = 5 "relabel",
        /// Change policy, roles or configuration.
        Administer = 6 "administer",
    }

    /// What was decided.
    Verdict {
        /// It may be done.
        Granted = 1 "granted",
        /// It may not be done.
        Denied = 2 "denied",
    }

    /// What carries the content.
    Transport {
        /// Nothing: it was not chosen yet, or nothing moves.
        None = 0 "none",
        /// QUIC, which is encrypted.
        Quic = 1 "quic",
        /// RDMA, which is not.
        Rdma = 2 "rdma",
    }
}

impl Action {
    /// Whether content leaves by it.
    pub fn moves_content(self) -> bool {
        matches!(self, Self::Push | Self::Pull)
    }
}
