//! What can be wrong with the policy and the roles of a node.

use std::io;
use std::path::PathBuf;

use crate::identity::{AuditKeyError, BundleError, FileError, SealError};
use crate::manifest::DecodeError;
use crate::policy::{ChangeError, PolicyError, SucceedError};

/// Why there is no policy or there are no roles to decide with, or why roles were not changed.
#[derive(Debug, thiserror::Error)]
pub enum BorderError {
    /// A file cannot be read or written.
    #[error("{} cannot be {action}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried, as a participle.
        action: &'static str,
        /// The system's words.
        source: io::Error,
    },
    /// The policy that the configuration names is not there.
    #[error("{}, which border.policy names, is not there", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file is not UTF-8 text.
    #[error("{} is not a text", path.display())]
    Text {
        /// The file.
        path: PathBuf,
    },
    /// A file is larger than any of its kind.
    #[error("{} has more than {limit} bytes", path.display())]
    Large {
        /// The file.
        path: PathBuf,
        /// The bound in bytes.
        limit: u64,
    },
    /// The policy is wrong.
    #[error("{}: {source}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PolicyError,
    },
    /// The file of roles holds none.
    #[error("{}: {source}", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: DecodeError,
    },
    /// The roles do not count here.
    #[error("{}: {source}", path.display())]
    Voucher {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: BundleError,
    },
    /// The roles are older than those that counted here before.
    #[error("{} holds version {found} of the roles, and version {seen} counted already", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The version that was seen.
        seen: u64,
    },
    /// The roles are older than those that count, or others of the same version.
    #[error("{}: {source}", path.display())]
    Succeed {
        /// The file.
        path: PathBuf,
        /// Why they are not taken.
        source: SucceedError,
    },
    /// The roles of another node are signed by a node, not by the CA.
    #[error("{} is not signed by the CA of the trust domain", path.display())]
    NotByCa {
        /// The file.
        path: PathBuf,
    },
    /// The note of what was seen is not one.
    #[error("{} is damaged", path.display())]
    Seen {
        /// The file.
        path: PathBuf,
    },
    /// This node's key for signing roles cannot be read.
    #[error(transparent)]
    Key(#[from] AuditKeyError),
    /// The roles were not signed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The change makes no sense.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl BorderError {
    /// What the system said, where a file could not be read or written: that may pass by itself.
    pub(super) fn of_system(&self) -> Option<&io::Error> {
        match self {
            Self::File { source, .. }
            | Self::Key(AuditKeyError::File(FileError::Io { source, .. })) => Some(source),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File { .. } => "check who owns the file, and the disk's space",
            Self::Missing { .. } => "write it, or take border.policy out of portway.toml",
            Self::Text { .. } | Self::Policy { .. } => {
                "portway policy check says what is wrong, line by line"
            }
            Self::Large { .. } => "check that it is the file that was meant",
            Self::Bundle { .. }
            | Self::Voucher { .. }
            | Self::Older { .. }
            | Self::Succeed { .. }
            | Self::NotByCa { .. } => {
                "take the bundle of roles anew from the node that grants them"
            }
            Self::Seen { .. } => {
                "remove the file after making sure that policy and roles are the latest"
            }
            Self::Key(_) | Self::Seal(_) => "check the folder of identities and who owns it",
            Self::Change(error) => match error {
                ChangeError::Revoked { .. } => {
                    "portway grant IDENTITY, without a role, readmits it first"
                }
                ChangeError::Nothing { .. } | ChangeError::Already { .. } => {
                    "portway policy roles lists what is granted and revoked"
                }
                ChangeError::Over => "give a time that is to come",
                ChangeError::Full { .. } | ChangeError::Large => "revoke what is not needed",
                ChangeError::Path | ChangeError::Versions => "give another dataset",
            },
        }
    }
}
