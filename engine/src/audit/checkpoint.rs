//! Signed checkpoints: a log up to a size, in 64 bytes of signature.

use super::merkle::consistency_holds;
use super::names::LogId;
use super::portable::Portable;
use crate::base::{Digest, FileTime};
use crate::identity::{AuditKey, AuditPublicKey, AuditSignature};
use crate::manifest::DecodeError;
use crate::policy::fields::{Reader, Writer};

/// What precedes a checkpoint in what is signed.
const CONTEXT: &[u8] = b"portway audit checkpoint 1\0";
/// Bytes of an encoded checkpoint.
pub const CHECKPOINT_BYTES: usize = 16 + 8 + 32 + 12 + 64;

/// The first `size` records of a log, sealed: nobody without the key can make another log of that
/// size under this name that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log.
    pub log: LogId,
    /// Number of records.
    pub size: u64,
    /// Root of the Merkle tree over them.
    pub root: Digest,
    /// The wall clock when it was signed.
    pub at: FileTime,
    /// Ed25519, by the log's key.
    pub signature: AuditSignature,
}

fn message(log: LogId, size: u64, root: Digest, at: FileTime) -> Vec<u8> {
    let mut out = Writer::new(CONTEXT);
    out.array(&log.0);
    out.u64(size);
    out.digest(&root);
    out.time(at);
    out.finish()
}

impl Checkpoint {
    /// Signs the first `size` records.
    pub fn sign(key: &AuditKey, log: LogId, size: u64, root: Digest, at: FileTime) -> Self {
        let signature = key.sign(&message(log, size, root, at));
        Self { log, size, root, at, signature }
    }

    /// Whether `key` signed it.
    pub fn is_signed_by(&self, key: &AuditPublicKey) -> bool {
        key.verify(&message(self.log, self.size, self.root, self.at), &self.signature)
    }

    /// Whether `proof` shows that this checkpoint is of the beginning of the log that `later` is of.
    /// The signatures are another question.
    pub fn begins(&self, later: &Self, proof: &[Digest]) -> bool {
        self.log == later.log
            && consistency_holds(self.size, self.root, later.size, later.root, proof)
    }
}

impl Portable for Checkpoint {
    fn put(&self, out: &mut Writer) {
        out.array(&self.log.0);
        out.u64(self.size);
        out.digest(&self.root);
        out.time(self.at);
        out.array(&self.signature.0);
    }

    fn take(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            log: LogId(fields.array("log")?),
            size: fields.u64("size")?,
            root: fields.digest("root")?,
            at: fields.time("time")?,
            signature: AuditSignature(fields.array("signature")?),
        })
    }
}
