//! Who has which role, for which datasets, until when.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::bundle::BODY_BYTES_MAX;
use super::request::PATH_BYTES_MAX;
use super::words::Principal;
use crate::base::{Class, ParseNameError, RelPath};

/// Most grants in a bundle.
pub const GRANTS_MAX: usize = 4096;
/// Most revoked identities in a bundle.
pub const REVOKED_MAX: usize = 4096;

/// The name of a role; the rules are those of names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(String);

impl Role {
    /// The role's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Role {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<Class>().map(|_| Self(text.to_owned()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is granted to whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// To whom.
    pub identity: Principal,
    /// Which role.
    pub role: Role,
    /// For this dataset and what is below it; the root for all.
    pub dataset: RelPath,
}

/// Why roles were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There are as many grants or revocations as there can be.
    #[error("there are {limit} {what} already")]
    Full {
        /// `grants` or `revoked identities`.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// The dataset's path is too long.
    #[error("the path of a dataset has at most {PATH_BYTES_MAX} bytes here")]
    Path,
    /// The grant would be over before it begins.
    #[error("the time until which it would hold has passed")]
    Over,
    /// The identity is revoked.
    #[error("{identity} is revoked")]
    Revoked {
        /// The identity.
        identity: Principal,
    },
    /// There is nothing to take back.
    #[error("{identity} has no such grant, and is not revoked")]
    Nothing {
        /// The identity.
        identity: Principal,
    },
    /// The identity is revoked already.
    #[error("{identity} is revoked already")]
    Already {
        /// The identity.
        identity: Principal,
    },
    /// They would take more bytes than a bundle may have.
    #[error("the roles would take more than {BODY_BYTES_MAX} bytes")]
    Large,
    /// The versions are used up.
    #[error("there are no versions left")]
    Versions,
}

/// Why another version of the roles is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SucceedError {
    /// It is older than the one that counts.
    #[error("the roles are version {offered}, older than version {held} that counts here")]
    Older {
        /// Its version.
        offered: u64,
        /// The version that counts.
        held: u64,
    },
    /// It has the version that counts, and says something else.
    #[error("there are two different roles of version {version}")]
    Fork {
        /// The version.
        version: u64,
    },
}

/// The roles that somebody has now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Held<'a> {
    /// Names, in order, each once.
    pub(super) roles: Vec<&'a str>,
    /// Whether the identity is revoked.
    pub(super) revoked: bool,
    /// When the first of them ends, in seconds since 1970.
    pub(super) until: Option<i64>,
}

/// One version of all grants and revocations. A change gives the next version; nothing changes one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roles {
    pub(super) version: u64,
    /// Each with the second since 1970 from which on it is over.
    pub(super) grants: BTreeMap<Grant, Option<i64>>,
    pub(super) revoked: BTreeSet<Principal>,
}

impl Roles {
    /// The version, which grows by one with every change; 0 where nothing was ever granted.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All grants in order, with the second since 1970 from which on each is over.
    pub fn grants(&self) -> impl Iterator<Item = (&Grant, Option<i64>)> {
        self.grants.iter().map(|(grant, until)| (grant, *until))
    }

    /// The identities that may do nothing, whatever else is granted.
    pub fn revoked(&self) -> impl Iterator<Item = &Principal> {
        self.revoked.iter()
    }

    /// The next version, with this grant in it. One that was there has the new end.
    ///
    /// # Errors
    /// There is no room, the end has passed, or the identity is revoked.
    pub fn grant(&self, grant: Grant, until: Option<i64>, now: i64) -> Result<Self, ChangeError> {
        if grant.dataset.as_bytes().len() > PATH_BYTES_MAX {
            return Err(ChangeError::Path);
        }
        if until.is_some_and(|until| until <= now) {
            return Err(ChangeError::Over);
        }
        if self.revoked.contains(&grant.identity) {
            return Err(ChangeError::Revoked { identity: grant.identity });
        }
        let mut next = self.next()?;
        // Grants that are over count for nothing, and go.
        next.grants.retain(|_, until| until.is_none_or(|until| until > now));
        next.grants.insert(grant, until);
        if next.grants.len() > GRANTS_MAX {
            return Err(ChangeError::Full { what: "grants", limit: GRANTS_MAX });
        }
        next.bounded()
    }

    /// The next version, without this identity's grants of a role: the one for `dataset`, or all.
    ///
    /// # Errors
    /// There is no such grant.
    pub fn revoke(
        &self,
        identity: &Principal,
        role: &Role,
        dataset: Option<&RelPath>,
    ) -> Result<Self, ChangeError> {
        let mut next = self.next()?;
        next.grants.retain(|grant, _| {
            let meant = grant.identity == *identity && grant.role == *role;
            !(meant && dataset.is_none_or(|dataset| *dataset == grant.dataset))
        });
        if next.grants.len() == self.grants.len() {
            return Err(ChangeError::Nothing { identity: identity.clone() });
        }
        Ok(next)
    }

    /// The next version, in which an identity may do nothing and has no grants.
    ///
    /// # Errors
    /// It is revoked already, or there is no room.
    pub fn revoke_identity(&self, identity: &Principal) -> Result<Self, ChangeError> {
        let mut next = self.next()?;
        next.grants.retain(|grant, _| grant.identity != *identity);
        if !next.revoked.insert(identity.clone()) {
            return Err(ChangeError::Already { identity: identity.clone() });
        }
        if next.revoked.len() > REVOKED_MAX {
            return Err(ChangeError::Full { what: "revoked identities", limit: REVOKED_MAX });
        }
        next.bounded()
    }

    /// The next version, in which an identity is no longer revoked.
    ///
    /// # Errors
    /// It is not revoked.
    pub fn readmit(&self, identity: &Principal) -> Result<Self, ChangeError> {
        let mut next = self.next()?;
        if next.revoked.remove(identity) {
            Ok(next)
        } else {
            Err(ChangeError::Nothing { identity: identity.clone() })
        }
    }

    /// Takes the roles that somebody else has, if they are not older.
    ///
    /// # Errors
    /// They are older, or others of the same version; what counted goes on to count.
    pub fn succeed(&self, offered: Self) -> Result<Self, SucceedError> {
        let (version, held) = (offered.version, self.version);
        if version < held {
            return Err(SucceedError::Older { offered: version, held });
        }
        if version == held && offered != *self {
            return Err(SucceedError::Fork { version });
        }
        Ok(offered)
    }

    /// The roles of `who` for `dataset` at `now`.
    pub(super) fn held(&self, who: &Principal, dataset: &RelPath, now: i64) -> Held<'_> {
        let mut held = Held { revoked: self.revoked.contains(who), ..Held::default() };
        let first =
            Grant { identity: who.clone(), role: Role(String::new()), dataset: RelPath::root() };
        let theirs = self.grants.range(first..).take_while(|(grant, _)| grant.identity == *who);
        for (grant, until) in theirs {
            let over = until.is_some_and(|until| until <= now);
            if over || dataset.strip(&grant.dataset).is_none() {
                continue;
            }
            held.until = [held.until, *until].into_iter().flatten().min();
            if held.roles.last() != Some(&grant.role.as_str()) {
                held.roles.push(grant.role.as_str());
            }
        }
        held
    }

    fn bounded(self) -> Result<Self, ChangeError> {
        if self.encoded_len() > BODY_BYTES_MAX { Err(ChangeError::Large) } else { Ok(self) }
    }

    fn next(&self) -> Result<Self, ChangeError> {
        let version = self.version.checked_add(1).ok_or(ChangeError::Versions)?;
        Ok(Self { version, ..self.clone() })
    }
}
