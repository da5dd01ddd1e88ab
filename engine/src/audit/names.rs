//! The words of a record: who, where, over what, and how it ended.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};

use crate::base::{Digest, NodeName, ParseNameError, SiteName};
use crate::identity::SpiffeId;

/// Longest SPIFFE id, in bytes (SPIFFE-ID 2.3).
pub const WHO_BYTES_MAX: usize = 2048;
/// Longest reason that is kept, in bytes.
pub const REASON_BYTES_MAX: usize = 1024;

/// One log, for as long as it goes on: chosen at random when it is begun.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogId(pub [u8; 16]);

impl LogId {
    /// A name for a new log; `None` without randomness.
    pub fn random() -> Option<Self> {
        let mut bytes = [0; 16];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not a SPIFFE id that a record takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a SPIFFE id is 'spiffe://' and more, at most 2048 bytes of visible ASCII")]
pub struct ParsePrincipalError;

/// Who acts: the SPIFFE id of a node or a workload, as text. Whose certificate said so is the
/// matter of the module `identity`; here only what could break a line is kept out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(String);

impl Principal {
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

impl From<&SpiffeId> for Principal {
    fn from(id: &SpiffeId) -> Self {
        Self(id.to_string())
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a class or a link: 1 to 63 of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or
/// digit. These are the rules of names, so it is kept as one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(SiteName);

impl Word {
    /// The word's text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Word {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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

impl Action {
    /// Whether content leaves by it.
    pub fn moves_content(self) -> bool {
        matches!(self, Self::Push | Self::Pull)
    }
}

/// A node and its site.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The site.
    pub site: SiteName,
    /// The node.
    pub node: NodeName,
}

impl From<&SpiffeId> for Place {
    fn from(id: &SpiffeId) -> Self {
        Self { site: id.site.clone(), node: id.node.clone() }
    }
}

/// Which policy decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PolicyVersion {
    /// The number that grows with every change.
    pub number: u64,
    /// The digest of the policy's text.
    pub digest: Digest,
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $code:literal $text:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$item_doc])* $item = $code,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$item),+];

            /// Its byte in a record.
            pub(super) fn code(self) -> u8 {
                self as u8
            }

            /// The one with this byte.
            pub(super) fn from_code(code: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|item| item.code() == code)
            }

            /// Its word in an export.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$item => $text,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+};
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

    /// How a transfer, or the part of it that one session was, ended.
    Ending {
        /// Everything is where it should be.
        Complete = 1 "complete",
        /// The link or a process was lost; it can be resumed.
        Interrupted = 2 "interrupted",
        /// Policy, role, class or certificate no longer allow it.
        Denied = 3 "denied",
        /// A budget is used up.
        Budget = 4 "budget",
        /// It failed for another reason.
        Failed = 5 "failed",
    }
}
