//! The words of a record that the policy does not have: where, over what, and how it ended.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};

use crate::base::{NodeName, ParseNameError, SiteName, words};
use crate::identity::SpiffeId;
use crate::manifest::DecodeError;
use crate::policy::Principal;
use crate::policy::fields::{Reader, Writer};

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

impl From<&SpiffeId> for Principal {
    fn from(id: &SpiffeId) -> Self {
        Self::checked(id.to_string())
    }
}

/// The name of a link: 1 to 63 of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or
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

impl Writer {
    pub(super) fn place(&mut self, place: &Place) {
        self.text8(place.site.as_str());
        self.text8(place.node.as_str());
    }
}

impl Reader<'_> {
    pub(super) fn place(&mut self) -> Result<Place, DecodeError> {
        Ok(Place { site: self.name("site")?, node: self.name("node")? })
    }
}

words! {
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
