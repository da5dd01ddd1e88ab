//! Verifying a log: every bit of it, and against what others know.

use super::checkpoint::Checkpoint;
use super::error::{Damage, ReadError, VerifyError};
use super::folder::LogFolder;
use super::frames::{Frames, heads, unacknowledged};
use super::head::Heads;
use super::merkle::Frontier;
use super::names::LogId;
use super::record::{Entry, KeyRecord, Record};
use crate::base::FileTime;
use crate::identity::{AttestationError, AuditPublicKey};
use crate::policy::Principal;

/// Says which node vouches for a key that was recorded at this time: in a node,
/// [`Identity::judge_attestation`](crate::identity::Identity::judge_attestation).
pub type Judge<'a> = dyn Fn(&KeyRecord, FileTime) -> Result<Principal, AttestationError> + 'a;

/// What a log is compared with.
#[derive(Default)]
pub struct Known<'a> {
    /// Checkpoints of this log that others hold.
    pub held: &'a [Checkpoint],
    /// Who judges the log's keys. Without, the first record's key is believed to be the node's.
    pub judge: Option<&'a Judge<'a>>,
    /// Whose log it has to be.
    pub node: Option<&'a Principal>,
    /// Whether the signatures of receipts are checked too: two of them in each, 0.1 ms.
    pub receipts: bool,
}

/// What a log was found to be: whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The log.
    pub log: LogId,
    /// Whose it is, as its last key record says.
    pub node: Principal,
    /// The key that seals it.
    pub key: AuditPublicKey,
    /// Number of records.
    pub records: u64,
    /// How many of them are seals.
    pub seals: u64,
    /// How many of them are receipts.
    pub receipts: u64,
    /// Checkpoints of others that were compared.
    pub held: usize,
    /// All of it, signed.
    pub checkpoint: Checkpoint,
}

/// Reads a whole log and checks everything in it: every frame against the one before, every record,
/// every seal against the tree, the tree against the head, the keys, and the checkpoints that
/// others hold. It may be appended to meanwhile.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(folder: &LogFolder, known: &Known<'_>) -> Result<Report, VerifyError> {
    let (found, mut frames) = {
        let _held = folder.hold().map_err(ReadError::from)?;
        let found = heads(folder)?.ok_or(ReadError::Missing)?;
        let bytes = unacknowledged(folder, &found.newest).map_err(ReadError::from)?;
        if bytes > 0 {
            return Err(VerifyError::Unacknowledged { bytes });
        }
        if found.trees.iter().any(Option::is_none) {
            return Err(VerifyError::Torn);
        }
        let frames = Frames::all(folder, &found.newest)?;
        (found, frames)
    };
    let mut verifier = Verifier::new(known, &found)?;
    while let Some(frame) = frames.next()? {
        let entry = frame.entry()?;
        verifier.look(&entry)?;
        verifier.tree.push(frame.digest);
        verifier.compare()?;
    }
    verifier.finish()
}

struct Verifier<'a> {
    known: &'a Known<'a>,
    found: &'a Heads,
    tree: Frontier,
    /// The last key record.
    key: Option<KeyRecord>,
    /// Checkpoints of others, the smallest last.
    held: Vec<Checkpoint>,
    seals: u64,
    receipts: u64,
}

impl<'a> Verifier<'a> {
    fn new(known: &'a Known<'a>, found: &'a Heads) -> Result<Self, VerifyError> {
        let head = &found.newest.checkpoint;
        // One of no records says nothing.
        let mut held: Vec<Checkpoint> =
            known.held.iter().filter(|checkpoint| checkpoint.size > 0).copied().collect();
        held.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.size));
        for checkpoint in &held {
            if checkpoint.log != head.log {
                return Err(VerifyError::OtherLog { held: checkpoint.log, found: head.log });
            }
            if checkpoint.size > head.size {
                let (held, found) = (checkpoint.size, head.size);
                return Err(VerifyError::RolledBack { held, found });
            }
        }
        let tree = Frontier::default();
        Ok(Self { known, found, tree, key: None, held, seals: 0, receipts: 0 })
    }

    /// Looks at a record before it is in the tree.
    fn look(&mut self, entry: &Entry) -> Result<(), VerifyError> {
        let seq = entry.seq;
        match &entry.record {
            Record::Key(key) => return self.look_at_key(entry, key),
            Record::Seal(seal) => {
                self.seals += 1;
                let right = seal.log == self.found.newest.checkpoint.log
                    && (seal.size, seal.root) == (seq, self.tree.root());
                let key = self.key.as_ref().filter(|_| right);
                if key.is_none_or(|key| !seal.is_signed_by(&key.key)) {
                    return Err(VerifyError::Seal { seq });
                }
            }
            Record::Receipt(receipt) => {
                self.receipts += 1;
                if self.known.receipts {
                    receipt.check().map_err(|source| VerifyError::Receipt { seq, source })?;
                }
            }
            Record::Witness(witness) => {
                if !witness.checkpoint.is_signed_by(&witness.key) {
                    return Err(VerifyError::Witness { seq });
                }
            }
            Record::Decision(_)
            | Record::Start(_)
            | Record::Progress(_)
            | Record::Stop(_)
            | Record::Dispute(_)
            | Record::Meter(_) => {}
        }
        if self.key.is_some() { Ok(()) } else { Err(VerifyError::Key { seq }) }
    }

    fn look_at_key(&mut self, entry: &Entry, key: &KeyRecord) -> Result<(), VerifyError> {
        let seq = entry.seq;
        if key.log != self.found.newest.checkpoint.log {
            return Err(VerifyError::Key { seq });
        }
        if let Some(judge) = self.known.judge {
            let node = judge(key, entry.at);
            let node = node.map_err(|source| VerifyError::Attestation { seq, source })?;
            if node != key.node {
                return Err(VerifyError::Node { seq, found: node.as_str().to_owned() });
            }
        }
        if self.known.node.is_some_and(|node| *node != key.node) {
            return Err(VerifyError::Node { seq, found: key.node.as_str().to_owned() });
        }
        self.key = Some(key.clone());
        Ok(())
    }

    /// Compares the tree with those checkpoints that are of its size.
    fn compare(&mut self) -> Result<(), VerifyError> {
        let size = self.tree.size();
        let due = |checkpoint: &Checkpoint| checkpoint.size == size;
        let before = &self.found.before;
        if due(&before.checkpoint) && before.checkpoint.root != self.tree.root() {
            return Err(ReadError::Damaged(Damage::Tree).into());
        }
        while let Some(held) = self.held.pop_if(|held| due(held)) {
            if held.root != self.tree.root() {
                return Err(VerifyError::Forked { size });
            }
            if !self.key.as_ref().is_some_and(|key| held.is_signed_by(&key.key)) {
                return Err(VerifyError::HeldKey { size });
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Report, VerifyError> {
        let head = &self.found.newest;
        let Some(key) = self.key else { return Err(VerifyError::Key { seq: 0 }) };
        let right = (self.tree.size(), self.tree.root(), key.key)
            == (head.checkpoint.size, head.checkpoint.root, head.key);
        if !right {
            return Err(ReadError::Damaged(Damage::Tree).into());
        }
        Ok(Report {
            log: head.checkpoint.log,
            node: key.node,
            key: key.key,
            records: self.tree.size(),
            seals: self.seals,
            receipts: self.receipts,
            held: self.known.held.len(),
            checkpoint: head.checkpoint,
        })
    }
}
