//! What can be wrong with a log, and what to do about it.

use std::io;
use std::sync::Arc;

use super::names::LogId;
use crate::identity::AttestationError;
use crate::manifest::DecodeError;

/// A log that is not as it was written. No crash does any of this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// There are records and no head, or a head that is not whole.
    #[error("the head of the audit log is missing or was changed")]
    Head,
    /// A segment is not there.
    #[error("the audit log has no segment that begins with record {first}")]
    SegmentMissing {
        /// Number of the first record that should be in it.
        first: u64,
    },
    /// There is a segment that does not belong there.
    #[error("the audit log has a segment {first} that does not belong to it")]
    SegmentStray {
        /// The number in its name.
        first: u64,
    },
    /// A segment begins with other bytes than it should.
    #[error("the segment {segment} of the audit log begins wrong")]
    SegmentHead {
        /// Its first record.
        segment: u64,
    },
    /// A segment ends before its last record does.
    #[error("the segment {segment} of the audit log was cut off in or before record {seq}")]
    Short {
        /// Its first record.
        segment: u64,
        /// The record.
        seq: u64,
    },
    /// More follows the last record than one append can have left.
    #[error("{bytes} bytes follow the end of the audit log")]
    Long {
        /// How many.
        bytes: u64,
    },
    /// A record's bytes were changed.
    #[error("record {seq} of the audit log was changed (segment {segment}, byte {offset})")]
    Frame {
        /// The record.
        seq: u64,
        /// First record of its segment.
        segment: u64,
        /// Where it begins in the segment.
        offset: u64,
    },
    /// A record does not follow the one before it: one was taken out, put in, or moved.
    #[error("record {seq} of the audit log does not follow the one before it")]
    Chain {
        /// The record.
        seq: u64,
    },
    /// A record is whole and does not say what a record says.
    #[error("record {seq} of the audit log cannot be understood: {source}")]
    Record {
        /// The record.
        seq: u64,
        /// What is wrong.
        source: DecodeError,
    },
    /// The records are not those that the head was signed for.
    #[error("the records of the audit log are not those of its head")]
    Tree,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system failed.
    #[error("the audit log cannot be read")]
    Io(#[from] io::Error),
    /// The log is not as it was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// A newer version wrote it.
    #[error("record {seq} of the audit log was written by a newer version of portway")]
    Newer {
        /// The record.
        seq: u64,
    },
    /// There is no log.
    #[error("there is no audit log here")]
    Missing,
}

impl ReadError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io(_) => "check the disk and the permissions of the audit folder",
            Self::Damaged(_) => {
                "keep a copy of the audit folder as evidence, compare it with the peers' checkpoints, \
                 then move it away: a new log begins"
            }
            Self::Newer { .. } => "use the newer version",
            Self::Missing => "a node has an audit log once something crossed the border",
        }
    }
}

/// What stopped a log.
#[derive(Debug, thiserror::Error)]
pub enum StopCause {
    /// A record could not be made durable.
    #[error("a record could not be {action}: {source}")]
    Io {
        /// What was tried, as a participle.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The log is not as it was left.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A panic while records were written.
    #[error("the writer of the audit log failed")]
    Panic,
}

impl StopCause {
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

/// Why a record was not appended, or a log not opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The log is stopped: this append or one before it failed, and none is taken any more.
    #[error("the audit log is stopped, so nothing may cross the border: {0}")]
    Stopped(Arc<StopCause>),
    /// The record is over a limit.
    #[error("a record for the audit log is too large: {0}")]
    Record(#[from] DecodeError),
    /// Keys and seals are records that the log makes itself.
    #[error("records about keys and seals are made by the audit log itself")]
    Reserved,
}

impl From<StopCause> for LogError {
    fn from(cause: StopCause) -> Self {
        Self::Stopped(Arc::new(cause))
    }
}

impl LogError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Stopped(cause) => match &**cause {
                StopCause::Io { source, .. } => match source.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        "free space where the audit folder lies, then start portway again"
                    }
                    _ => "check the disk of the audit folder, then start portway again",
                },
                StopCause::Read(error) => error.hint(),
                StopCause::Panic => "start portway again, and report this as a bug",
            },
            Self::Record(_) => {
                "split extents over several records; give a key at most 8 certificates"
            }
            Self::Reserved => "append decisions, starts, progress, stops and receipts",
        }
    }
}

/// What is wrong with a log that was to be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read, or is not as it was written.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Bytes behind the last acknowledged record.
    #[error("{bytes} bytes follow the last acknowledged record of the audit log")]
    Unacknowledged {
        /// How many.
        bytes: u64,
    },
    /// The subtrees beside the head are not whole.
    #[error("the head of the audit log is torn")]
    Torn,
    /// A checkpoint in the log is not of the records before it, or not signed by the log's key.
    #[error("the seal in record {seq} of the audit log is wrong")]
    Seal {
        /// The record.
        seq: u64,
    },
    /// A key is recorded for another log, or the log does not begin with one.
    #[error("record {seq} of the audit log does not name the log's key")]
    Key {
        /// The record.
        seq: u64,
    },
    /// A key is not vouched for by the node.
    #[error("the key in record {seq} of the audit log is nobody's: {source}")]
    Attestation {
        /// The record.
        seq: u64,
        /// Why.
        source: AttestationError,
    },
    /// The log is that of another node than the one asked for.
    #[error("the key in record {seq} of the audit log is that of {found}")]
    Node {
        /// The record.
        seq: u64,
        /// The node that vouches for it.
        found: String,
    },
    /// A receipt in the log is not signed by both ends.
    #[error("the receipt in record {seq} of the audit log is wrong: {source}")]
    Receipt {
        /// The record.
        seq: u64,
        /// Why.
        source: super::receipt::ReceiptError,
    },
    /// A checkpoint of another log, kept in this one, is not signed by the key it names.
    #[error("the checkpoint of another log in record {seq} of the audit log is wrong")]
    Witness {
        /// The record.
        seq: u64,
    },
    /// A checkpoint that a peer holds is not signed by the key that the log had then.
    #[error("the peer's checkpoint at {size} records is not signed by the key of the audit log")]
    HeldKey {
        /// Records that it covers.
        size: u64,
    },
    /// A checkpoint that a peer holds is of another log.
    #[error("the peer's checkpoint is of the audit log {held}, and this is {found}")]
    OtherLog {
        /// The log that the peer knows.
        held: LogId,
        /// The log that is here.
        found: LogId,
    },
    /// A peer holds a checkpoint of a longer log: this one is an old copy, or was cut.
    #[error("the peer saw {held} records and the audit log has {found}: an old copy was put back")]
    RolledBack {
        /// Records that the peer knows of.
        held: u64,
        /// Records here.
        found: u64,
    },
    /// A peer holds a checkpoint of other records.
    #[error("the first {size} records of the audit log are not those that the peer saw")]
    Forked {
        /// Number of records.
        size: u64,
    },
}

impl VerifyError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read(error) => error.hint(),
            Self::Unacknowledged { .. } | Self::Torn => {
                "a crash leaves what was under way: start portway, which cuts it off, and verify \
                 again; if nothing crashed, the log was changed"
            }
            Self::Attestation { .. } | Self::Node { .. } => {
                "check which node's log this is, and that its CA is trusted"
            }
            Self::OtherLog { .. } => {
                "the log was moved away and begun anew, or belongs to another node"
            }
            Self::Seal { .. }
            | Self::Key { .. }
            | Self::Receipt { .. }
            | Self::Witness { .. }
            | Self::HeldKey { .. }
            | Self::RolledBack { .. }
            | Self::Forked { .. } => {
                "the log was changed: keep a copy of the audit folder as evidence, and reconcile with \
                 the peers' logs"
            }
        }
    }
}
