//! What a log holds: records, each with its number and the time.

use super::checkpoint::Checkpoint;
use super::extents::ExtentSet;
use super::names::{Ending, LogId, Place, Word};
use super::receipt::Receipt;
use crate::base::{Class, Digest, FileTime, RelPath, TransferId};
use crate::cost::Tariff;
use crate::identity::{Attestation, AuditPublicKey};
use crate::policy::{Action, PolicyVersion, Principal, Reason, Transport, Verdict};

/// A record as it lies in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the log, from zero, without gaps. The order of a log is this one.
    pub seq: u64,
    /// The wall clock when it was appended. It may jump; `seq` does not.
    pub at: FileTime,
    /// What happened.
    pub record: Record,
}

/// What one record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Whose log it is and which key seals it from here on. The first record of each log.
    Key(KeyRecord),
    /// The log up to here, signed.
    Seal(Checkpoint),
    /// A checkpoint of another node's log, kept so that it cannot be taken back there.
    Witness(Witness),
    /// Somebody wanted to do something, and what was decided.
    Decision(Decision),
    /// A transfer, or the part of it that one session is, begins.
    Start(Crossing),
    /// Content crossed since the record before.
    Progress(Progress),
    /// A transfer, or the part of it that one session is, ended.
    Stop(Stop),
    /// What both ends say of a session that ended.
    Receipt(Box<Receipt>),
    /// The ends do not say the same of a session that ended, so there is no receipt.
    Dispute(Dispute),
    /// What a session took of the wire since the record before, and what that costs.
    Meter(Meter),
}

/// Whose log it is, and the key that seals it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The log.
    pub log: LogId,
    /// The node that keeps it.
    pub node: Principal,
    /// The key that signs its checkpoints and receipts from here on.
    pub key: AuditPublicKey,
    /// The node's word that the key is its own.
    pub attestation: Attestation,
}

/// A checkpoint of another node's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// The node that gave it.
    pub node: Principal,
    /// The key that signed it.
    pub key: AuditPublicKey,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
}

/// Who moves what from where to where: what every record about a transfer says again, so that each
/// can be understood alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Crossing {
    /// The transfer, as logs, metrics and the other end call it.
    pub transfer: TransferId,
    /// Who wants it.
    pub who: Principal,
    /// The dataset, below the root of the node that keeps it.
    pub path: RelPath,
    /// The snapshot's root digest, once it is known: in one pass that is at the end.
    pub root: Option<Digest>,
    /// The dataset's class.
    pub class: Class,
    /// Where the content comes from.
    pub from: Place,
    /// Where it goes.
    pub to: Place,
    /// The link that it takes.
    pub link: Word,
    /// What carries it.
    pub transport: Transport,
    /// The policy that counts.
    pub policy: PolicyVersion,
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Who wants to move what.
    pub crossing: Crossing,
    /// What is to be done.
    pub action: Action,
    /// What was decided.
    pub verdict: Verdict,
    /// Why, in words.
    pub reason: Reason,
}

/// Content that crossed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The transfer.
    pub crossing: Crossing,
    /// Bytes of content that crossed since the record before of this transfer; what crossed twice
    /// counts twice.
    pub bytes: u64,
    /// Where they lie in the dataset.
    pub left: ExtentSet,
}

/// An end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The transfer.
    pub crossing: Crossing,
    /// How it ended.
    pub ending: Ending,
    /// Why, in words.
    pub reason: Reason,
    /// Bytes of content that crossed since the record before, as in [`Progress`].
    pub bytes: u64,
    /// Where they lie in the dataset.
    pub left: ExtentSet,
}

/// The other end's word on a session is another one than ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispute {
    /// The transfer.
    pub crossing: Crossing,
    /// Number of the stop record here that it is about.
    pub stop: u64,
    /// What differs, in words.
    pub reason: Reason,
}

/// What a session took of the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    /// The transfer.
    pub crossing: Crossing,
    /// Bytes of IP packets that this node sent since the record before of this session: content as it
    /// was encoded, headers, control messages, and what was sent again.
    pub sent: u64,
    /// The same of what it received.
    pub received: u64,
    /// What this node paid for what it sent; none where its configuration has no price for the link.
    pub tariff: Option<Tariff>,
}

impl Record {
    /// The transfer that the record is about; none for those about logs.
    pub fn transfer(&self) -> Option<TransferId> {
        match self {
            Self::Receipt(receipt) => Some(receipt.body.transfer),
            _ => self.crossing().map(|crossing| crossing.transfer),
        }
    }

    /// Who moves what, where the record says so.
    pub fn crossing(&self) -> Option<&Crossing> {
        match self {
            Self::Decision(decision) => Some(&decision.crossing),
            Self::Start(crossing) => Some(crossing),
            Self::Progress(progress) => Some(&progress.crossing),
            Self::Stop(stop) => Some(&stop.crossing),
            Self::Dispute(dispute) => Some(&dispute.crossing),
            Self::Meter(meter) => Some(&meter.crossing),
            Self::Key(_) | Self::Seal(_) | Self::Witness(_) | Self::Receipt(_) => None,
        }
    }

    /// The word for its kind in an export.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Seal(_) => "seal",
            Self::Witness(_) => "witness",
            Self::Decision(_) => "decision",
            Self::Start(_) => "start",
            Self::Progress(_) => "progress",
            Self::Stop(_) => "stop",
            Self::Receipt(_) => "receipt",
            Self::Dispute(_) => "dispute",
            Self::Meter(_) => "meter",
        }
    }
}
